//! The scripts: each is one atomic step of the protocol, and each says what becomes of it while Redis's memory is full.
//!
//! Redis looks at the first line of a script (`#!lua flags=...`) and, when it uses more than its `maxmemory`, refuses
//! every script that is not marked, before its first command: <https://redis.io/docs/latest/develop/programmability/lua-api/>
//! (script flags). So nothing is ever done by half, and what frees memory can be let through. What is let through must be
//! bounded by something else than memory:
//!
//! | script | when memory is full | why that is safe |
//! | --- | --- | --- |
//! | `apply` | refused | it is what takes memory: ingest keeps the batch, and nothing of it was written |
//! | `register` | runs | one field of some 40 bytes per life of an ingest; without it a new ingest could not even wait in line |
//! | `rotate` | runs | frees |
//! | `ack`, `reopen` | run | they free, or lead to a flush, which does |
//! | `carry` | runs | it makes a copy of one generation at a time, and frees what that was made from |
//! | `version`, `behind` | run | one field of a shard |
//! | `lease` | runs | one key of a shard, with a TTL |
//! | `note`, `salt` | run | a field per process, a key per day |
//! | `follow`, `advance` | run | they let bases live longer, change numbers in them, and remove them |
//! | `fill` | runs, and caches nothing | looks at the memory itself: a base that is not cached is read from MySQL again |
//! | `rewrite` | runs | puts words in the place of words |
//! | `probe` | runs | it writes nothing: Redis is asked whether it would let it |
//! | `state`, `look` | run | they only read |
//!
//! No rule of the protocol leans on a refusal: a script that runs checks what it always checks.

use std::sync::LazyLock;

use redis::Cmd;

/// What Redis does with a script while it uses more memory than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Refuses it, before anything is written.
    Refused,
    /// Runs it.
    Runs,
    /// Runs it, and never lets it write.
    Reads,
}

/// One atomic step of the protocol, as Redis runs it.
pub struct Script {
    /// What it is called in logs and tests.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
    /// What becomes of it when memory is full.
    pub when_full: WhenFull,
    pub(super) prepared: redis::Script,
}

impl Script {
    /// A call with these keys; its arguments are added behind them.
    pub(super) fn call<'a>(&self, keys: impl IntoIterator<Item = &'a str, IntoIter: ExactSizeIterator>) -> Cmd {
        let keys = keys.into_iter();
        let mut call = redis::cmd("EVALSHA");
        call.arg(self.prepared.get_hash()).arg(keys.len());
        for key in keys {
            call.arg(key);
        }
        call
    }
}

macro_rules! flags {
    (Refused) => {
        ""
    };
    (Runs) => {
        "allow-oom"
    };
    (Reads) => {
        "no-writes"
    };
}

macro_rules! script {
    ($when_full:ident, $($before:literal,)* $name:ident) => {
        LazyLock::new(|| {
            let text = concat!(
                "#!lua flags=", flags!($when_full), "\n",
                $(include_str!(concat!("lua/", $before, ".lua")),)*
                include_str!(concat!("lua/", stringify!($name), ".lua")),
            );
            let (name, when_full) = (stringify!($name), WhenFull::$when_full);
            Script { name, text, when_full, prepared: redis::Script::new(text) }
        })
    };
}

pub(super) static APPLY: LazyLock<Script> = script!(Refused, "guard", "epoch", "forget", apply);
pub(super) static REGISTER: LazyLock<Script> = script!(Runs, "guard", "epoch", register);
pub(super) static ROTATE: LazyLock<Script> = script!(Runs, "guard", "epoch", "forget", rotate);
pub(super) static FOLLOW: LazyLock<Script> = script!(Runs, "guard", "epoch", "memory", "cached", follow);
pub(super) static FILL: LazyLock<Script> = script!(Runs, "guard", "epoch", "memory", "cached", fill);
pub(super) static ADVANCE: LazyLock<Script> = script!(Runs, "guard", "epoch", "cached", advance);
pub(super) static ACK: LazyLock<Script> = script!(Runs, "guard", "epoch", ack);
pub(super) static VERSION: LazyLock<Script> = script!(Runs, "guard", "epoch", version);
pub(super) static BEHIND: LazyLock<Script> = script!(Runs, "guard", behind);
pub(super) static REOPEN: LazyLock<Script> = script!(Runs, "guard", reopen);
pub(super) static CARRY: LazyLock<Script> = script!(Runs, "guard", carry);
pub(super) static PROBE: LazyLock<Script> = script!(Runs, "guard", probe);
pub(super) static STATE: LazyLock<Script> = script!(Reads, "guard", state);
pub(super) static LOOK: LazyLock<Script> = script!(Reads, look);
pub(super) static LEASE: LazyLock<Script> = script!(Runs, lease);
pub(super) static NOTE: LazyLock<Script> = script!(Runs, note);
pub(super) static SALT: LazyLock<Script> = script!(Runs, salt);
pub(super) static REWRITE: LazyLock<Script> = script!(Runs, rewrite);

static ALL: [&LazyLock<Script>; 18] = [
    &APPLY, &REGISTER, &ROTATE, &FOLLOW, &FILL, &ADVANCE, &ACK, &VERSION, &BEHIND, &REOPEN, &CARRY, &PROBE, &STATE,
    &LOOK, &LEASE, &NOTE, &SALT, &REWRITE,
];

/// All scripts.
pub fn scripts() -> impl Iterator<Item = &'static Script> {
    ALL.into_iter().map(|script| &**script)
}

impl Script {
    /// The hash by which Redis knows it.
    #[must_use]
    pub fn hash(&self) -> &str {
        self.prepared.get_hash()
    }
}
