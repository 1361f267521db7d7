//! The body of `POST /v1/views`: from bytes to views, or to what is wrong with them. Pure.
//!
//! Whoever sends nonsense must not cost more than whoever sends views. So nothing is looked at behind the last view that is
//! allowed; what is wrong with a view is a word, and only the few that the client reads become sentences; and a value that
//! is not wanted is passed over, not built.

mod view;

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, Error as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::request::{Reason, Rejection, Sent};

use view::view;

/// Rejected views of a large request that are described one by one.
const DESCRIBED_MAX: usize = 10;

/// The views of one request.
#[derive(Debug, PartialEq, Eq)]
pub enum Posted {
    /// One JSON object.
    One(Sent),
    /// An array or NDJSON: some may be rejected while the others count.
    Many(Many),
}

/// Many views, each with its position in the request, from 0.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Many {
    /// Those that can be counted.
    pub sent: Vec<(usize, Sent)>,
    /// Those that cannot.
    pub rejected: Rejected,
}

/// Views that were rejected: how many for which reason, and the first ones.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rejected {
    /// How many.
    pub reasons: BTreeMap<Reason, usize>,
    /// The first ten, by position.
    pub first: Vec<(usize, Rejection)>,
}

impl Rejected {
    /// One more. `rejection` is made only if it is among the first.
    pub fn add(&mut self, index: usize, reason: Reason, rejection: impl FnOnce() -> Rejection) {
        *self.reasons.entry(reason).or_default() += 1;
        let place = self.first.partition_point(|(other, _)| *other < index);
        if place < DESCRIBED_MAX {
            self.first.truncate(DESCRIBED_MAX - 1);
            self.first.insert(place, (index, rejection()));
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.reasons.values().sum()
    }
}

/// A posted view has no user, and needs one.
#[must_use]
pub fn missing_in_body() -> Rejection {
    Rejection { reason: Reason::NoUser, ..malformed("missing field `user`") }
}

fn malformed(error: impl fmt::Display) -> Rejection {
    // It may repeat what was sent, however long that is.
    let error: String = error.to_string().chars().filter(|character| !character.is_control()).take(200).collect();
    let message = format!("the body is not {{\"article\": \"...\", \"user\": \"...\"}}: {error}");
    Rejection::new(Reason::Malformed, message)
}

/// Text without what is around it: white space, and the mark with which some programs begin a file in UTF-8.
fn bare(text: &str) -> &str {
    text.trim_start_matches('\u{feff}').trim()
}

/// Reads a JSON object, an array of them, or one object per line. The body decides, not its content type:
/// beacons can only send `text/plain`. `is_ndjson` tells one line from one object.
pub fn posted(body: &[u8], is_ndjson: bool, views_max: usize) -> Result<Posted, Rejection> {
    let text =
        std::str::from_utf8(body).map_err(|_| Rejection::new(Reason::Malformed, "the body is not valid UTF-8"))?;
    let text = bare(text);
    if text.is_empty() {
        return Err(Rejection::new(
            Reason::Malformed,
            "the body is empty: send {\"article\": \"...\", \"user\": \"...\"}",
        ));
    }
    let mut views = Views { many: Many::default(), seen: 0, max: views_max };
    if text.starts_with('[') {
        let mut array = serde_json::Deserializer::from_str(text);
        let read = array.deserialize_seq(&mut views).and_then(|()| array.end());
        // It was not read on after the last view that is allowed.
        views.within()?;
        read.map_err(malformed)?;
    } else if is_ndjson || begins_with_a_line(text) {
        views.add_lines(text);
        views.within()?;
    } else {
        return view(text).map(Posted::One).map_err(|wrong| wrong.rejection());
    }
    Ok(Posted::Many(views.many))
}

/// Whether there are several lines, the first of which is a JSON value by itself.
fn begins_with_a_line(text: &str) -> bool {
    text.split_once('\n').is_some_and(|(line, _)| serde_json::from_str::<IgnoredAny>(line).is_ok())
}

/// The views of an array or of lines, up to one more than there may be.
struct Views {
    many: Many,
    seen: usize,
    max: usize,
}

impl Views {
    fn add(&mut self, json: &str) {
        let index = self.seen;
        self.seen += 1;
        if self.seen > self.max {
            return;
        }
        match view(json) {
            Ok(sent) => self.many.sent.push((index, sent)),
            Err(wrong) => self.many.rejected.add(index, wrong.reason(), || wrong.rejection()),
        }
    }

    fn add_lines(&mut self, text: &str) {
        let lines = text.split('\n').filter(|line| !line.is_empty()).map(bare).filter(|line| !line.is_empty());
        for line in lines {
            self.add(line);
            if self.seen > self.max {
                return;
            }
        }
    }

    /// Not more than there may be.
    fn within(&self) -> Result<(), Rejection> {
        if self.seen <= self.max {
            return Ok(());
        }
        let message = format!("there are more than {} views in one request: send the others in another one", self.max);
        Err(Rejection::new(Reason::TooLarge, message))
    }
}

impl<'de> Visitor<'de> for &mut Views {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of views")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        // Each is first found and then read: one that cannot be read does not spoil the others.
        while let Some(json) = array.next_element::<&RawValue>()? {
            self.add(json.get());
            if self.seen > self.max {
                return Err(A::Error::custom("too many"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use footfall_shared::protocol::{Article, User};
    use proptest::prelude::*;

    use super::*;

    fn sent(article: &str, user: Option<&str>) -> Sent {
        Sent {
            article: Article::parse(article.as_bytes()).expect("test id"),
            user: user.map(|user| User::parse(user.as_bytes()).expect("test id")),
            id: None,
        }
    }

    #[test]
    fn one_many_and_lines_are_told_apart() {
        let object = r#"{"article":"a","user":"u"}"#;
        let one = || sent("a", Some("u"));
        assert_eq!(posted(object.as_bytes(), false, 9), Ok(Posted::One(one())));
        for nobody in [r#"{"article":"a"}"#, r#"{"article":"a","user":null}"#] {
            assert_eq!(posted(nobody.as_bytes(), false, 9), Ok(Posted::One(sent("a", None))));
        }
        assert_eq!(
            posted(object.as_bytes(), true, 9),
            Ok(Posted::Many(Many { sent: vec![(0, one())], rejected: Rejected::default() }))
        );
        let two = Many { sent: vec![(0, one()), (1, one())], rejected: Rejected::default() };
        assert_eq!(posted(format!("[{object},{object}]").as_bytes(), false, 9), Ok(Posted::Many(two)));
        let Ok(Posted::Many(views)) = posted(format!("{object}\n\n{object}\n{{}}").as_bytes(), false, 9) else {
            panic!("lines are many");
        };
        assert_eq!((views.sent.len(), views.rejected.count()), (2, 1));
        let (index, rejection) = &views.rejected.first[0];
        assert!(*index == 2 && rejection.message.contains("article"), "{rejection}");
    }

    #[test]
    fn rejections_say_what_is_wrong() {
        let object = r#"{"article":"a","user":"u"}"#;
        for (body, status, said) in [
            ("", 400, "empty"),
            ("{", 400, "does not end with }"),
            ("[", 400, "EOF"),
            ("7", 400, "does not begin with {"),
            (r#"{"user":"u"}"#, 400, "article"),
            (r#"{"article":"a","user":7}"#, 400, "a string"),
            (r#"{"article":"a","user":""}"#, 422, "user id is empty"),
            (r#"{"article":"","user":"u"}"#, 422, "empty"),
            (r#"{"article":"a\n","user":"u"}"#, 422, "control"),
            (r#"{"article":"a","user":"u","id":""}"#, 422, "view id is empty"),
            (r#"{"article":"a","user":"u","id":7}"#, 400, "a string"),
            (r#"{"article":null,"user":"u"}"#, 400, "missing field `article`"),
            (r#"{"article":"a","user":["u"]}"#, 400, "`user` must be a string"),
            (r#"{"article":"a","usr":"u"}"#, 400, "unknown field `usr`"),
            (r#"{"article":"a","article":"a"}"#, 400, "duplicate field `article`"),
            (r#"{"article":"a","user":null,"user":"u"}"#, 400, "duplicate field `user`"),
            (r#"{"article":"..","user":"u"}"#, 422, "no browser can ask"),
            (r#"{"article":"a","user":"."}"#, 422, "no browser can ask"),
            // Nothing comes after an object but the next line.
            (r#"{"article":"a","user":"u"} x"#, 400, "does not end with }"),
            (r#"{"article":"a","user":"u"}{}"#, 400, "trailing characters"),
            (r#"{"article":"a","user":"u"},{"article":"a","user":"u"}"#, 400, "trailing characters"),
            (r#"{"article":"a","user":"u"}]"#, 400, "does not end with }"),
            ("{\"article\":\"a\",\n\"user\":\"u\"}\n{}", 400, "trailing characters"),
            (r#"[{"article":"a","user":"u"}] x"#, 400, "trailing characters"),
            (r#"[{"article":"a","user":"u"}"#, 400, "EOF"),
            (r#"[{"article":"a","user":"u"},]"#, 400, "trailing comma"),
        ] {
            let rejection = posted(body.as_bytes(), false, 9).expect_err(body);
            assert_eq!(rejection.reason.status().as_u16(), status, "{body}");
            assert!(rejection.message.contains(said), "{body}: {rejection}");
        }
        let many = [object; 10].join("\n");
        assert_eq!(posted(many.as_bytes(), false, 9).expect_err("too many").reason.status().as_u16(), 413);
        assert_eq!(posted(b"\xff", false, 9).expect_err("not UTF-8").reason.status().as_u16(), 400);
    }

    /// A struct is an array too, for serde.
    #[test]
    fn nothing_but_an_object_is_a_view() {
        for body in [r#"[["a","u",null]]"#, r#"["a"]"#, "[1]", "[null]", "[[]]", "[{}]", "[\"{}\"]"] {
            let Ok(Posted::Many(views)) = posted(body.as_bytes(), false, 9) else { panic!("{body}") };
            assert_eq!((views.sent.len(), views.rejected.count()), (0, 1), "{body}");
        }
        // One that cannot be read does not spoil the others.
        let half = r#"[{"article":"\ud800"},{"article":"a"},{"article":1e999},{"b":{"c":[[]]},"article":"a"}]"#;
        let Ok(Posted::Many(views)) = posted(half.as_bytes(), false, 9) else { panic!("it is an array") };
        assert_eq!((views.sent.len(), views.sent[0].0, views.rejected.count()), (1, 1, 3));
    }

    #[test]
    fn what_is_too_much_is_not_looked_at() {
        for element in
            ["1", "{}", "\"\"", "null", "{\"article\":[[[]]]}", "{\"article\":\"\"}", "{\"article\":\"a\"}", "1e999"]
        {
            let many =
                |count: usize| [format!("[{}]", vec![element; count].join(",")), vec![element; count].join("\n")];
            for allowed in many(10) {
                let Ok(Posted::Many(views)) = posted(allowed.as_bytes(), true, 10) else { panic!("{allowed}") };
                assert!(
                    views.sent.len() + views.rejected.count() == 10 && views.rejected.first.len() <= 10,
                    "{element}"
                );
            }
            let [array, lines] = many(1_000);
            let views = || Views { many: Many::default(), seen: 0, max: 10 };
            let (mut of_array, mut of_lines) = (views(), views());
            assert!(serde_json::Deserializer::from_str(&array).deserialize_seq(&mut of_array).is_err());
            of_lines.add_lines(&lines);
            assert_eq!((of_array.seen, of_lines.seen), (11, 11), "{element}");
            for body in [&array, &lines] {
                let rejection = posted(body.as_bytes(), true, 10).expect_err(element);
                assert!(rejection.reason == Reason::TooLarge && rejection.message.contains("10 views"), "{rejection}");
            }
        }
    }

    /// Large and senseless, and each answered with a sentence.
    #[test]
    fn floods_end_in_one_sentence() {
        const MIB: usize = 1 << 20;
        let many_fields: String = (0..MIB / 10).map(|number| format!("\"{number}\":1,")).collect();
        for (what, body) in [
            ("open arrays", "[".repeat(MIB)),
            ("open objects", "{\"a\":".repeat(MIB / 5)),
            ("arrays in arrays", format!("{}{}", "[".repeat(MIB / 2), "]".repeat(MIB / 2))),
            ("arrays in a view", format!("{{\"article\":{}{}}}", "[".repeat(MIB / 2), "]".repeat(MIB / 2))),
            ("fields", format!("{{{many_fields}\"article\":\"a\"}}")),
            ("the same field", format!("{{{}\"id\":\"\"}}", "\"id\":\"\",".repeat(MIB / 8))),
            ("a name", format!("{{\"{}\":1}}", "n".repeat(MIB))),
            ("a name with escapes", format!("{{\"{}\":1}}", "\\n".repeat(MIB / 2))),
            ("an id", format!("{{\"article\":\"{}\"}}", "\\u0041".repeat(MIB / 6))),
            ("a number", "1".repeat(MIB)),
            ("a number in a view", format!("{{\"article\":1{}}}", "0".repeat(MIB))),
            ("spaces", format!("{}7", " ".repeat(MIB))),
            ("spaces in an array", format!("[{}", " ".repeat(MIB))),
            ("lines", format!("7{}7", "\n".repeat(MIB))),
        ] {
            for is_ndjson in [false, true] {
                let message = match posted(body.as_bytes(), is_ndjson, 10_000) {
                    Err(rejection) => rejection.message,
                    Ok(Posted::Many(many)) if many.sent.is_empty() => many.rejected.first[0].1.message.clone(),
                    Ok(_) => panic!("{what}: it is a view"),
                };
                assert!(message.len() < 400 && message.lines().count() == 1, "{what}: {message}");
            }
        }
    }

    #[test]
    fn only_the_first_rejections_are_described() {
        let mut rejected = Rejected::default();
        let mut described = 0;
        for index in (0..100).map(|number| (number * 37) % 100) {
            rejected.add(index, Reason::Malformed, || {
                described += 1;
                malformed(index)
            });
        }
        assert_eq!(rejected.first.iter().map(|(index, _)| *index).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
        assert!(rejected.count() == 100 && described < 60, "{described}");
    }

    proptest! {
        #[test]
        fn any_body_is_answered(body: Vec<u8>, is_ndjson: bool) {
            let _ = posted(&body, is_ndjson, 100);
        }

        #[test]
        fn any_json_is_answered(body in r#"[\[\]{}",:\\ua-u0-9.eE+ \n-]{0,60}"#, is_ndjson: bool) {
            let _ = posted(body.as_bytes(), is_ndjson, 3);
        }
    }
}
