//! What passes through the proxy, as rules see it.

/// A request on its way to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A Redis command: its name, then its arguments.
    Redis(Vec<Vec<u8>>),
    /// A command of the MySQL protocol.
    MySql {
        /// What kind of command.
        command: MySqlCommand,
        /// The SQL text; that of the prepared statement for the commands that name one by its number, the database for
        /// [`InitDb`](MySqlCommand::InitDb), empty for the rest. Bytes that are not UTF-8 are replaced.
        sql: String,
    },
}

impl Message {
    /// Whether this is the Redis command of that name, in upper or lower case.
    pub fn is_redis(&self, command: &str) -> bool {
        matches!(self, Self::Redis(_)) && self.argument(0).eq_ignore_ascii_case(command.as_bytes())
    }

    /// An argument of a Redis command, 0 being its name; empty when there is none.
    pub fn argument(&self, index: usize) -> &[u8] {
        match self {
            Self::Redis(arguments) => arguments.get(index).map(Vec::as_slice).unwrap_or_default(),
            Self::MySql { .. } => &[],
        }
    }

    /// The SQL text; empty for Redis.
    pub fn sql(&self) -> &str {
        match self {
            Self::Redis(_) => "",
            Self::MySql { sql, .. } => sql,
        }
    }

    /// Whether this executes, directly or prepared, a statement that begins so, in upper or lower case. Preparing one
    /// does not count.
    pub fn runs_sql(&self, prefix: &str) -> bool {
        let runs = matches!(self, Self::MySql { command: MySqlCommand::Query | MySqlCommand::Execute, .. });
        let start = self.sql().trim_start().as_bytes().get(..prefix.len());
        runs && start.is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    }

    /// Whether the text occurs in an argument or in the SQL.
    pub fn contains(&self, text: &str) -> bool {
        let holds = |argument: &Vec<u8>| {
            text.is_empty() || argument.windows(text.len()).any(|window| window == text.as_bytes())
        };
        match self {
            Self::Redis(arguments) => arguments.iter().any(holds),
            Self::MySql { sql, .. } => sql.contains(text),
        }
    }
}

/// Commands of the MySQL protocol, see <https://mariadb.com/kb/en/2-text-protocol/> and the binary one beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MySqlCommand {
    /// The client says goodbye; no reply.
    Quit,
    /// Selects a database.
    InitDb,
    /// Executes SQL text.
    Query,
    /// Asks whether the server is there.
    Ping,
    /// Prepares a statement.
    Prepare,
    /// Executes a prepared statement.
    Execute,
    /// A part of a parameter; no reply.
    SendLongData,
    /// Forgets a prepared statement; no reply.
    CloseStatement,
    /// Resets a prepared statement.
    ResetStatement,
    /// Fetches rows of a cursor.
    Fetch,
    /// Makes the connection as good as new.
    ResetConnection,
    /// Logs in again.
    ChangeUser,
    /// Any other, by its number.
    Other(u8),
}
