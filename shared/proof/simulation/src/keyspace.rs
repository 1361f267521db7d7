//! What a Redis server holds, and the commands that Footfall uses on it, with Redis's own replies and errors.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A value. Shared between copies of a keyspace until it is changed.
#[derive(Debug, Clone)]
enum Stored {
    Text(Vec<u8>),
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
    List(Vec<Vec<u8>>),
    Set(BTreeSet<Vec<u8>>),
}

#[derive(Debug, Clone)]
struct Entry {
    value: Arc<Stored>,
    expires_at: Option<u64>,
}

/// All keys of a server. Cheap to copy.
#[derive(Debug, Clone, Default)]
pub struct Keyspace {
    entries: BTreeMap<Arc<[u8]>, Entry>,
    writes: u64,
}

/// What a command sees of its server.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// Time of day, in milliseconds.
    pub now_ms: u64,
    /// Names this life of the server, or of its master.
    pub replid: String,
    /// Whether it is a replica.
    pub is_replica: bool,
    /// Memory in use and the most that there is.
    pub memory: (u64, u64),
}

/// What a command answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Nothing.
    Nil,
    /// A number.
    Int(i64),
    /// A string.
    Text(Vec<u8>),
    /// `OK` and the like.
    Status(&'static str),
    /// Several replies.
    Array(Vec<Reply>),
}

/// What a command refuses with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The first word.
    pub code: String,
    /// The rest.
    pub detail: String,
}

impl Refused {
    /// An error reply.
    pub fn new(code: &str, detail: impl Into<String>) -> Self {
        Self { code: code.into(), detail: detail.into() }
    }

    fn wrong_type() -> Self {
        Self::new("WRONGTYPE", "Operation against a key holding the wrong kind of value")
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.code, self.detail)
    }
}

impl std::error::Error for Refused {}

type Result<T> = std::result::Result<T, Refused>;

macro_rules! typed {
    ($name:ident, $name_mut:ident, $variant:ident, $type:ty) => {
        fn $name(&self, key: &[u8]) -> Result<Option<&$type>> {
            match self.entries.get(key).map(|entry| &*entry.value) {
                None => Ok(None),
                Some(Stored::$variant(value)) => Ok(Some(value)),
                Some(_) => Err(Refused::wrong_type()),
            }
        }

        fn $name_mut(&mut self, key: &[u8]) -> Result<&mut $type> {
            self.writes += 1;
            let empty = || Entry { value: Arc::new(Stored::$variant(<$type>::default())), expires_at: None };
            match Arc::make_mut(&mut self.entries.entry(key.into()).or_insert_with(empty).value) {
                Stored::$variant(value) => Ok(value),
                _ => Err(Refused::wrong_type()),
            }
        }
    };
}

impl Keyspace {
    typed!(hash, hash_mut, Hash, BTreeMap<Vec<u8>, Vec<u8>>);
    typed!(list, list_mut, List, Vec<Vec<u8>>);
    typed!(set, set_mut, Set, BTreeSet<Vec<u8>>);

    /// Grows with every change.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.writes
    }

    /// All key names.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.entries.keys().map(|key| String::from_utf8_lossy(key).into_owned()).collect()
    }

    /// A field of a hash, for the oracle.
    #[must_use]
    pub fn field(&self, key: &str, field: &str) -> Option<u64> {
        let value = self.hash(key.as_bytes()).ok()??.get(field.as_bytes())?;
        std::str::from_utf8(value).ok()?.parse().ok()
    }

    /// How long a list is, for the oracle.
    #[must_use]
    pub fn length(&self, key: &str) -> usize {
        self.list(key.as_bytes()).ok().flatten().map_or(0, Vec::len)
    }

    /// A field of a hash as text, for the oracle.
    #[must_use]
    pub fn word(&self, key: &str, field: &str) -> Option<String> {
        let value = self.hash(key.as_bytes()).ok()??.get(field.as_bytes())?;
        String::from_utf8(value.clone()).ok()
    }

    /// A list, for the oracle.
    #[must_use]
    pub fn elements(&self, key: &str) -> &[Vec<u8>] {
        self.list(key.as_bytes()).ok().flatten().map_or(&[], Vec::as_slice)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.writes += 1;
    }

    /// Damages a key as its type allows, depending on `how`; answers what was done, or none if it is not there.
    pub fn damage(&mut self, key: &str, how: u64) -> Option<&'static str> {
        let entry = self.entries.get_mut(key.as_bytes())?;
        self.writes += 1;
        let what = match Arc::make_mut(&mut entry.value) {
            _ if how.is_multiple_of(4) => {
                entry.value = Arc::new(Stored::Text(b"damaged".to_vec()));
                "replaced by a string"
            }
            Stored::List(list) => {
                let at = (how / 8) as usize % list.len();
                if how.is_multiple_of(2) {
                    list.remove(at);
                    "lost an element"
                } else {
                    let bit = (how / 1024) as usize % (8 * list[at].len());
                    list[at][bit / 8] ^= 1 << (bit % 8);
                    "had a bit flipped"
                }
            }
            Stored::Hash(hash) => {
                let field = hash.keys().nth((how / 4) as usize % hash.len()).cloned().unwrap_or_default();
                hash.remove(&field);
                "lost a field"
            }
            Stored::Set(_) | Stored::Text(_) => {
                self.entries.remove(key.as_bytes());
                return Some("removed");
            }
        };
        self.remove_if_empty(key.as_bytes());
        Some(what)
    }

    /// Loses keys; answers what was done, or none if there were none.
    pub fn lose(&mut self, keys: &[&str]) -> Option<&'static str> {
        let lost = keys.iter().filter(|key| self.entries.remove(key.as_bytes()).is_some()).count();
        self.writes += lost as u64;
        (lost > 0).then_some("lost some keys")
    }

    fn remove_if_empty(&mut self, key: &[u8]) {
        let is_empty = self.entries.get(key).is_some_and(|entry| match &*entry.value {
            Stored::Text(_) => false,
            Stored::Hash(hash) => hash.is_empty(),
            Stored::List(list) => list.is_empty(),
            Stored::Set(set) => set.is_empty(),
        });
        if is_empty {
            self.entries.remove(key);
        }
    }

    fn expire(&mut self, now_ms: u64) {
        self.entries.retain(|_, entry| entry.expires_at.is_none_or(|at| at > now_ms));
    }

    /// Runs one command, as a server does that is not short of anything.
    pub fn command(&mut self, context: &Context, words: &[Vec<u8>]) -> Result<Reply> {
        if self.entries.values().any(|entry| entry.expires_at.is_some()) {
            self.expire(context.now_ms);
        }
        let name = words.first().map(|name| String::from_utf8_lossy(name).to_ascii_uppercase()).unwrap_or_default();
        let wrong_number = || Refused::new("ERR", format!("wrong number of arguments for '{name}' command"));
        let at = |index: usize| words.get(index).map(Vec::as_slice).ok_or_else(wrong_number);
        let rest = |from: usize| words.get(from..).unwrap_or_default();
        let text = |value: Option<&Vec<u8>>| value.map_or(Reply::Nil, |value| Reply::Text(value.clone()));
        let count = |count: usize| Reply::Int(i64::try_from(count).unwrap_or(i64::MAX));
        Ok(match name.as_str() {
            "TIME" => Reply::Array(vec![
                Reply::Text((context.now_ms / 1000).to_string().into_bytes()),
                Reply::Text((context.now_ms % 1000 * 1000).to_string().into_bytes()),
            ]),
            "INFO" => Reply::Text(
                format!(
                    "# Footfall\r\nused_memory:{}\r\nmaxmemory:{}\r\nrole:{}\r\nmaster_replid:{}\r\nkeyspace_hits:0\r\n",
                    context.memory.0,
                    context.memory.1,
                    if context.is_replica { "slave" } else { "master" },
                    context.replid
                )
                .into_bytes(),
            ),
            "GET" => match self.entries.get(at(1)?).map(|entry| &*entry.value) {
                None => Reply::Nil,
                Some(Stored::Text(value)) => Reply::Text(value.clone()),
                Some(_) => return Err(Refused::wrong_type()),
            },
            "MGET" => {
                let value = |key: &Vec<u8>| match self.entries.get(key.as_slice()).map(|entry| &*entry.value) {
                    Some(Stored::Text(value)) => Reply::Text(value.clone()),
                    _ => Reply::Nil,
                };
                Reply::Array(rest(1).iter().map(value).collect())
            }
            "SET" => {
                let held = self.entries.get(at(1)?);
                let words: Vec<_> = rest(3).iter().map(|word| word.to_ascii_uppercase()).collect();
                let words: Vec<_> = words.iter().map(Vec::as_slice).collect();
                let expires_at = match words[..] {
                    [] => None,
                    [b"KEEPTTL"] => held.and_then(|held| held.expires_at),
                    [b"PX", _, b"NX"] if held.is_some() => return Ok(Reply::Nil),
                    [b"PX", ms] | [b"PX", ms, b"NX"] => Some(context.now_ms + number(ms)? as u64),
                    _ => return Err(Refused::new("ERR", "syntax error")),
                };
                let entry = Entry { value: Arc::new(Stored::Text(at(2)?.to_vec())), expires_at };
                self.writes += 1;
                self.entries.insert(at(1)?.into(), entry);
                Reply::Status("OK")
            }
            "EXISTS" => count(rest(1).iter().filter(|key| self.entries.contains_key(key.as_slice())).count()),
            "DEL" | "UNLINK" => {
                let removed = rest(1).iter().filter(|key| self.entries.remove(key.as_slice()).is_some()).count();
                self.writes += removed as u64;
                count(removed)
            }
            "RENAME" => {
                let entry = self.entries.remove(at(1)?).ok_or_else(|| Refused::new("ERR", "no such key"))?;
                self.writes += 1;
                self.entries.insert(at(2)?.into(), entry);
                Reply::Status("OK")
            }
            "PEXPIRE" => {
                let expires_at = context.now_ms + number(at(2)?)? as u64;
                let only_longer = match rest(3) {
                    [] => false,
                    [word] if word.eq_ignore_ascii_case(b"GT") => true,
                    _ => return Err(Refused::new("ERR", "Unsupported option")),
                };
                let entry = self.entries.get_mut(at(1)?);
                // One that never expires lives longest.
                let is_meant = |entry: &&mut Entry| !only_longer || entry.expires_at.is_some_and(|at| at < expires_at);
                let is_set = entry.filter(is_meant).map(|entry| entry.expires_at = Some(expires_at)).is_some();
                Reply::Int(i64::from(is_set))
            }
            "PTTL" => Reply::Int(match self.entries.get(at(1)?) {
                None => -2,
                Some(entry) => entry.expires_at.map_or(-1, |at| i64::try_from(at - context.now_ms).unwrap_or(i64::MAX)),
            }),
            "TYPE" => Reply::Status(match self.entries.get(at(1)?).map(|entry| &*entry.value) {
                None => "none",
                Some(Stored::Text(_)) => "string",
                Some(Stored::Hash(_)) => "hash",
                Some(Stored::List(_)) => "list",
                Some(Stored::Set(_)) => "set",
            }),
            "HLEN" => count(self.hash(at(1)?)?.map_or(0, BTreeMap::len)),
            "HEXISTS" => Reply::Int(i64::from(self.hash(at(1)?)?.is_some_and(|hash| hash.contains_key(&words[2])))),
            "HGET" => text(self.hash(at(1)?)?.and_then(|hash| hash.get(words.get(2)?))),
            "HMGET" => {
                let hash = self.hash(at(1)?)?;
                Reply::Array(rest(2).iter().map(|field| text(hash.and_then(|hash| hash.get(field)))).collect())
            }
            "HGETALL" => {
                let pairs = self.hash(at(1)?)?.into_iter().flatten();
                Reply::Array(pairs.flat_map(|(a, b)| [Reply::Text(a.clone()), Reply::Text(b.clone())]).collect())
            }
            "HVALS" => {
                let values = self.hash(at(1)?)?.into_iter().flat_map(BTreeMap::values);
                Reply::Array(values.map(|value| Reply::Text(value.clone())).collect())
            }
            "HSET" | "HMSET" => {
                at(3)?;
                self.hash(at(1)?)?;
                let hash = self.hash_mut(at(1)?)?;
                let mut added = 0;
                for pair in rest(2).chunks(2) {
                    let [field, value] = pair else { return Err(wrong_number()) };
                    added += usize::from(hash.insert(field.clone(), value.clone()).is_none());
                }
                count(added)
            }
            "HSETNX" => {
                let is_new = !self.hash(at(1)?)?.is_some_and(|hash| hash.contains_key(&words[2]));
                if is_new {
                    self.hash_mut(at(1)?)?.insert(at(2)?.to_vec(), at(3)?.to_vec());
                }
                Reply::Int(i64::from(is_new))
            }
            "HDEL" => {
                if self.hash(at(1)?)?.is_none() {
                    return Ok(Reply::Int(0));
                }
                let hash = self.hash_mut(at(1)?)?;
                let removed = rest(2).iter().filter(|field| hash.remove(*field).is_some()).count();
                self.remove_if_empty(at(1)?);
                count(removed)
            }
            "HINCRBY" => {
                let by = number(at(3)?)?;
                let before = self.hash(at(1)?)?.and_then(|hash| hash.get(&words[2]));
                let not_integer = |_| Refused::new("ERR", "hash value is not an integer");
                let before = before.map_or(Ok(0), |value| number(value)).map_err(not_integer)?;
                let sum = before + by;
                self.hash_mut(at(1)?)?.insert(at(2)?.to_vec(), sum.to_string().into_bytes());
                Reply::Int(sum)
            }
            "LLEN" => count(self.list(at(1)?)?.map_or(0, Vec::len)),
            "LINDEX" => {
                let (list, index) = (self.list(at(1)?)?.map_or(&[][..], Vec::as_slice), number(at(2)?)?);
                text(usize::try_from(from_end(list.len(), index)).ok().and_then(|index| list.get(index)))
            }
            "LRANGE" => {
                let list = self.list(at(1)?)?.map_or(&[][..], Vec::as_slice);
                let range = range_of(list.len(), number(at(2)?)?, number(at(3)?)?);
                Reply::Array(list[range].iter().map(|value| Reply::Text(value.clone())).collect())
            }
            "LTRIM" => {
                let length = self.list(at(1)?)?.map_or(0, Vec::len);
                let range = range_of(length, number(at(2)?)?, number(at(3)?)?);
                if range != (0..length) {
                    let list = self.list_mut(at(1)?)?;
                    list.truncate(range.end);
                    list.drain(..range.start);
                    self.remove_if_empty(at(1)?);
                }
                Reply::Status("OK")
            }
            "RPOP" => match self.list(at(1)?)? {
                None => Reply::Nil,
                Some(_) => {
                    let last = self.list_mut(at(1)?)?.pop();
                    self.remove_if_empty(at(1)?);
                    text(last.as_ref())
                }
            },
            "RPUSH" => {
                self.list(at(1)?)?;
                let list = self.list_mut(at(1)?)?;
                list.extend_from_slice(rest(2));
                count(list.len())
            }
            "SADD" => {
                self.set(at(1)?)?;
                let set = self.set_mut(at(1)?)?;
                count(rest(2).iter().filter(|member| set.insert((*member).clone())).count())
            }
            "SMISMEMBER" => {
                let set = self.set(at(1)?)?;
                let is_in = |member| i64::from(set.is_some_and(|set| set.contains(member)));
                Reply::Array(rest(2).iter().map(|member| Reply::Int(is_in(member))).collect())
            }
            "SCARD" => count(self.set(at(1)?)?.map_or(0, BTreeSet::len)),
            _ => return Err(Refused::new("ERR", format!("unknown command '{name}'"))),
        })
    }
}

/// An index as Redis means it: a negative one counts from the end.
fn from_end(length: usize, index: i64) -> i64 {
    if index < 0 { i64::try_from(length).unwrap_or(i64::MAX) + index } else { index }
}

/// What is between two indices, both included, of a list that is so long.
fn range_of(length: usize, first: i64, last: i64) -> std::ops::Range<usize> {
    let first = usize::try_from(from_end(length, first)).unwrap_or(0);
    let end = usize::try_from(from_end(length, last) + 1).unwrap_or(0).min(length);
    first.min(end)..end
}

fn number(text: &[u8]) -> Result<i64> {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| Refused::new("ERR", "value is not an integer or out of range"))
}
