//! Runs scripts as Redis does: the same text, the same conversions between Lua's values and Redis's.

use std::cell::RefCell;
use std::collections::HashMap;

use mlua::{Error, Function, Lua, MultiValue, Table, Value};

use crate::keyspace::{Context, Keyspace, Refused, Reply};

/// What a script works on while it runs.
struct Running {
    keyspace: Keyspace,
    context: Context,
}

/// A Lua state with the scripts that it has compiled.
struct Engine {
    lua: Lua,
    compiled: HashMap<String, Function>,
}

thread_local! {
    /// One for all runs of a thread: scripts keep nothing between two calls.
    static ENGINE: RefCell<Engine> = RefCell::new(Engine::new());
}

/// Runs a script, all of it or up to the error that it ends with.
pub fn run(
    text: &str,
    keys: &[Vec<u8>],
    arguments: &[Vec<u8>],
    keyspace: &mut Keyspace,
    context: Context,
) -> Result<redis::Value, Refused> {
    ENGINE.with_borrow_mut(|engine| {
        let running = Running { keyspace: std::mem::take(keyspace), context };
        engine.lua.set_app_data(running);
        let result = engine.call(text, keys, arguments);
        let running = engine.lua.remove_app_data::<Running>().expect("it was put there above");
        *keyspace = running.keyspace;
        result.map_err(|error| refused(&error))
    })
}

impl Engine {
    fn new() -> Self {
        let lua = Lua::new();
        let install = || -> mlua::Result<()> {
            let redis = lua.create_table()?;
            redis.set("call", lua.create_function(call)?)?;
            redis.set("pcall", lua.create_function(pcall)?)?;
            lua.globals().set("redis", redis)
        };
        install().expect("an empty state has room for a table");
        Self { lua, compiled: HashMap::new() }
    }

    fn call(&mut self, text: &str, keys: &[Vec<u8>], arguments: &[Vec<u8>]) -> mlua::Result<redis::Value> {
        if !self.compiled.contains_key(text) {
            // The first line tells Redis about the script, and is no Lua.
            let body =
                text.split_once('\n').map_or(text, |(flags, body)| if flags.starts_with("#!") { body } else { text });
            let function = self.lua.load(body).set_name("@user_script").into_function()?;
            self.compiled.insert(text.to_owned(), function);
        }
        let globals = self.lua.globals();
        for (name, values) in [("KEYS", keys), ("ARGV", arguments)] {
            let table = self.lua.create_table_with_capacity(values.len(), 0)?;
            for (index, value) in values.iter().enumerate() {
                table.raw_set(index + 1, self.lua.create_string(value)?)?;
            }
            globals.raw_set(name, table)?;
        }
        answer_of(self.compiled[text].call::<Value>(())?)
    }
}

/// `redis.call`.
fn call(lua: &Lua, arguments: MultiValue) -> mlua::Result<Value> {
    let words = arguments.iter().map(word).collect::<mlua::Result<Vec<_>>>()?;
    let reply = {
        let mut running = lua.app_data_mut::<Running>().expect("a script is running");
        let Running { keyspace, context } = &mut *running;
        keyspace.command(context, &words).map_err(Error::external)?
    };
    value_of(lua, reply)
}

/// `redis.pcall`: an error is a table with `err`.
fn pcall(lua: &Lua, arguments: MultiValue) -> mlua::Result<Value> {
    call(lua, arguments).or_else(|error| {
        let table = lua.create_table()?;
        table.raw_set("err", refused(&error).to_string())?;
        Ok(Value::Table(table))
    })
}

/// An argument of a command: strings and numbers only.
fn word(value: &Value) -> mlua::Result<Vec<u8>> {
    Ok(match value {
        Value::String(text) => text.as_bytes().to_vec(),
        Value::Integer(number) => number.to_string().into_bytes(),
        // Redis prints a whole number without a fraction.
        Value::Number(number) if number.fract() == 0.0 && number.abs() < 1e17 => format!("{number:.0}").into_bytes(),
        Value::Number(number) => number.to_string().into_bytes(),
        _ => {
            let what = "Command arguments must be strings or integers";
            return Err(Error::external(Refused::new("ERR", what)));
        }
    })
}

fn value_of(lua: &Lua, reply: Reply) -> mlua::Result<Value> {
    Ok(match reply {
        Reply::Nil => Value::Boolean(false),
        Reply::Int(number) => Value::Number(number as f64),
        Reply::Text(text) => Value::String(lua.create_string(text)?),
        Reply::Status(status) => {
            let table = lua.create_table()?;
            table.raw_set("ok", status)?;
            Value::Table(table)
        }
        Reply::Array(replies) => {
            let table = lua.create_table_with_capacity(replies.len(), 0)?;
            for (index, reply) in replies.into_iter().enumerate() {
                table.raw_set(index + 1, value_of(lua, reply)?)?;
            }
            Value::Table(table)
        }
    })
}

/// What a script returns, as the client gets it: numbers lose their fraction, an array ends at its first nil.
fn answer_of(value: Value) -> mlua::Result<redis::Value> {
    Ok(match value {
        Value::Integer(number) => redis::Value::Int(number),
        Value::Number(number) => redis::Value::Int(number as i64),
        Value::String(text) => redis::Value::BulkString(text.as_bytes().to_vec()),
        Value::Boolean(true) => redis::Value::Int(1),
        Value::Table(table) => answer_of_table(&table)?,
        _ => redis::Value::Nil,
    })
}

fn answer_of_table(table: &Table) -> mlua::Result<redis::Value> {
    if let Value::String(error) = table.raw_get::<Value>("err")? {
        return Err(Error::external(Refused::new("ERR", error.to_string_lossy())));
    }
    if let Value::String(status) = table.raw_get::<Value>("ok")? {
        return Ok(redis::Value::SimpleString(status.to_string_lossy()));
    }
    let mut values = vec![];
    for index in 1.. {
        match table.raw_get::<Value>(index)? {
            Value::Nil => break,
            value => values.push(answer_of(value)?),
        }
    }
    Ok(redis::Value::Array(values))
}

/// An error as Redis words it: that of a command keeps its code, that of Lua itself is `ERR user_script`.
fn refused(error: &Error) -> Refused {
    match error {
        Error::CallbackError { cause, .. } => refused(cause),
        Error::ExternalError(error) if let Some(refused) = error.downcast_ref::<Refused>() => {
            let detail = format!("{} script: simulated, on @user_script:1.", refused.detail);
            Refused::new(&refused.code, detail)
        }
        other => Refused::new("ERR", format!("user_script:1: {other} script: simulated, on @user_script:1.")),
    }
}
