//! The body of `POST /v1/views`: from bytes to views, or to what is wrong with them. Pure.
//!
//! Whoever sends nonsense must not cost more than whoever sends views. So nothing is looked at behind the last view that is
//! allowed; what is wrong with a view is a word, and only the few that the client reads become sentences; and a value that
//! is not wanted is passed over, not built.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use footfall_shared::protocol::{Article, IdError, User, ViewId};
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::request::{self, Reason, Refusal, Sent};

/// Refused views of a large request that are described one by one.
const DESCRIBED_MAX: usize = 10;

/// The views of one request.
#[derive(Debug, PartialEq, Eq)]
pub enum Posted {
    /// One JSON object.
    One(Sent),
    /// An array or NDJSON: some may be refused while the others count.
    Many(Many),
}

/// Many views, each with its position in the request, from 0.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Many {
    /// Those that can be counted.
    pub sent: Vec<(usize, Sent)>,
    /// Those that cannot.
    pub refused: Refused,
}

/// Views that were refused: how many for which reason, and the first ones.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// How many.
    pub reasons: BTreeMap<Reason, usize>,
    /// The first ten, by position.
    pub first: Vec<(usize, Refusal)>,
}

impl Refused {
    /// One more. `refusal` is made only if it is among the first.
    pub fn add(&mut self, index: usize, reason: Reason, refusal: impl FnOnce() -> Refusal) {
        *self.reasons.entry(reason).or_default() += 1;
        let place = self.first.partition_point(|(other, _)| *other < index);
        if place < DESCRIBED_MAX {
            self.first.truncate(DESCRIBED_MAX - 1);
            self.first.insert(place, (index, refusal()));
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.reasons.values().sum()
    }
}

/// What is wrong with one view.
enum Wrong<'a> {
    /// It does not begin as an object.
    NoObject,
    /// It begins as an object and does not end as one.
    Cut,
    /// No JSON.
    Json(serde_json::Error),
    /// A name that is not known. A view whose `usr` was passed over would count for somebody without a name.
    Unknown(Cow<'a, str>),
    /// A field that is there twice.
    Twice(&'static str),
    /// A field that is something else than text.
    NoText(&'static str),
    /// Without what was read.
    NoArticle,
    /// An id that is empty, too long or no text.
    Id(IdError),
    /// An id that no path can end with, of this kind.
    NoPath(&'static str),
}

impl Wrong<'_> {
    fn reason(&self) -> Reason {
        match self {
            Self::Id(_) | Self::NoPath(_) => Reason::BadId,
            _ => Reason::Malformed,
        }
    }

    fn refusal(&self) -> Refusal {
        match self {
            Self::NoObject => malformed("it does not begin with {"),
            Self::Cut => malformed("it does not end with }"),
            Self::Json(error) => malformed(error),
            Self::Unknown(name) => {
                malformed(format_args!("unknown field `{name}`, expected `article`, `user` or `id`"))
            }
            Self::Twice(name) => malformed(format_args!("duplicate field `{name}`")),
            Self::NoText(name) => malformed(format_args!("`{name}` must be a string, in quotes")),
            Self::NoArticle => malformed("missing field `article`"),
            Self::Id(error) => error.clone().into(),
            Self::NoPath(kind) => request::no_path(kind),
        }
    }
}

/// A posted view has no user, and needs one.
#[must_use]
pub fn missing_in_body() -> Refusal {
    Refusal { reason: Reason::NoUser, ..malformed("missing field `user`") }
}

fn malformed(error: impl fmt::Display) -> Refusal {
    // It may repeat what was sent, however long that is.
    let error: String = error.to_string().chars().filter(|character| !character.is_control()).take(200).collect();
    let sentence = format!("the body is not {{\"article\": \"...\", \"user\": \"...\"}}: {error}");
    Refusal::new(Reason::Malformed, sentence)
}

/// Text without what is around it: white space, and the mark with which some programs begin a file in UTF-8.
fn bare(text: &str) -> &str {
    text.trim_start_matches('\u{feff}').trim()
}

/// Reads a JSON object, an array of them, or one object per line. The body decides, not its content type:
/// beacons can only send `text/plain`. `is_ndjson` tells one line from one object.
pub fn posted(body: &[u8], is_ndjson: bool, views_max: usize) -> Result<Posted, Refusal> {
    let text = std::str::from_utf8(body).map_err(|_| Refusal::new(Reason::Malformed, "the body is not valid UTF-8"))?;
    let text = bare(text);
    if text.is_empty() {
        return Err(Refusal::new(
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
        return view(text).map(Posted::One).map_err(|wrong| wrong.refusal());
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
            Err(wrong) => self.many.refused.add(index, wrong.reason(), || wrong.refusal()),
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
    fn within(&self) -> Result<(), Refusal> {
        if self.seen <= self.max {
            return Ok(());
        }
        let sentence = format!("there are more than {} views in one request: send the others in another one", self.max);
        Err(Refusal::new(Reason::TooLarge, sentence))
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

/// One view.
fn view(json: &str) -> Result<Sent, Wrong<'_>> {
    // What is plainly none is not given to serde, which makes an error with a place and a text of it.
    if !json.starts_with('{') {
        return Err(Wrong::NoObject);
    }
    if !json.ends_with('}') {
        return Err(Wrong::Cut);
    }
    serde_json::from_str::<Posting<'_>>(json).map_err(Wrong::Json)?.0
}

/// A JSON object as a view. Whatever it holds, it is read to its end, so that serde makes no error of it.
struct Posting<'a>(Result<Sent, Wrong<'a>>);

impl<'de> Deserialize<'de> for Posting<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Posting<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a view")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Posting<'de>, A::Error> {
        let (mut article, mut user, mut id) = (None, None, None);
        let mut wrong = None;
        while let Some(name) = map.next_key::<Content<'de>>()? {
            let Content::Text(name) = name else { continue };
            let (field, known) = match &*name {
                "article" => (&mut article, "article"),
                "user" => (&mut user, "user"),
                "id" => (&mut id, "id"),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    wrong = wrong.or(Some(Wrong::Unknown(name)));
                    continue;
                }
            };
            if field.replace(map.next_value::<Content<'de>>()?).is_some() {
                wrong = wrong.or(Some(Wrong::Twice(known)));
            }
        }
        Ok(Posting(wrong.map_or_else(|| sent(article, user, id), Err)))
    }
}

fn sent<'a>(
    article: Option<Content<'a>>,
    user: Option<Content<'a>>,
    id: Option<Content<'a>>,
) -> Result<Sent, Wrong<'a>> {
    let article = text("article", article)?.ok_or(Wrong::NoArticle)?;
    let article = Article::parse(article.as_bytes()).map_err(Wrong::Id)?;
    let user = text("user", user)?.map(|user| User::parse(user.as_bytes())).transpose().map_err(Wrong::Id)?;
    let id = text("id", id)?.map(|id| ViewId::parse(id.as_bytes())).transpose().map_err(Wrong::Id)?;
    if !request::can_be_asked_for(article.as_str()) {
        return Err(Wrong::NoPath("article"));
    }
    if user.as_ref().is_some_and(|user| !request::can_be_asked_for(user.as_str())) {
        return Err(Wrong::NoPath("user"));
    }
    Ok(Sent { article, user, id })
}

/// A field's text, if there is one.
fn text<'a>(name: &'static str, field: Option<Content<'a>>) -> Result<Option<Cow<'a, str>>, Wrong<'a>> {
    match field {
        None | Some(Content::Null) => Ok(None),
        Some(Content::Text(text)) => Ok(Some(text)),
        Some(Content::Other) => Err(Wrong::NoText(name)),
    }
}

/// What a field holds. Text stays where it lies in the body, if it can; nothing else is kept.
enum Content<'a> {
    Null,
    Text(Cow<'a, str>),
    Other,
}

impl<'de> Deserialize<'de> for Content<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyContent)
    }
}

struct AnyContent;

impl<'de> Visitor<'de> for AnyContent {
    type Value = Content<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Content::Null)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Content::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Content::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Content::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Content::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Content::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Content::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        while array.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Content::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Content::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
            Ok(Posted::Many(Many { sent: vec![(0, one())], refused: Refused::default() }))
        );
        let two = Many { sent: vec![(0, one()), (1, one())], refused: Refused::default() };
        assert_eq!(posted(format!("[{object},{object}]").as_bytes(), false, 9), Ok(Posted::Many(two)));
        let Ok(Posted::Many(views)) = posted(format!("{object}\n\n{object}\n{{}}").as_bytes(), false, 9) else {
            panic!("lines are many");
        };
        assert_eq!((views.sent.len(), views.refused.count()), (2, 1));
        let (index, refusal) = &views.refused.first[0];
        assert!(*index == 2 && refusal.sentence.contains("article"), "{refusal}");
    }

    #[test]
    fn refusals_say_what_is_wrong() {
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
            let refusal = posted(body.as_bytes(), false, 9).expect_err(body);
            assert_eq!(refusal.reason.status().as_u16(), status, "{body}");
            assert!(refusal.sentence.contains(said), "{body}: {refusal}");
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
            assert_eq!((views.sent.len(), views.refused.count()), (0, 1), "{body}");
        }
        // One that cannot be read does not spoil the others.
        let half = r#"[{"article":"\ud800"},{"article":"a"},{"article":1e999},{"b":{"c":[[]]},"article":"a"}]"#;
        let Ok(Posted::Many(views)) = posted(half.as_bytes(), false, 9) else { panic!("it is an array") };
        assert_eq!((views.sent.len(), views.sent[0].0, views.refused.count()), (1, 1, 3));
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
                assert!(views.sent.len() + views.refused.count() == 10 && views.refused.first.len() <= 10, "{element}");
            }
            let [array, lines] = many(1_000);
            let views = || Views { many: Many::default(), seen: 0, max: 10 };
            let (mut of_array, mut of_lines) = (views(), views());
            assert!(serde_json::Deserializer::from_str(&array).deserialize_seq(&mut of_array).is_err());
            of_lines.add_lines(&lines);
            assert_eq!((of_array.seen, of_lines.seen), (11, 11), "{element}");
            for body in [&array, &lines] {
                let refusal = posted(body.as_bytes(), true, 10).expect_err(element);
                assert!(refusal.reason == Reason::TooLarge && refusal.sentence.contains("10 views"), "{refusal}");
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
                let sentence = match posted(body.as_bytes(), is_ndjson, 10_000) {
                    Err(refusal) => refusal.sentence,
                    Ok(Posted::Many(many)) if many.sent.is_empty() => many.refused.first[0].1.sentence.clone(),
                    Ok(_) => panic!("{what}: it is a view"),
                };
                assert!(sentence.len() < 400 && sentence.lines().count() == 1, "{what}: {sentence}");
            }
        }
    }

    #[test]
    fn only_the_first_refusals_are_described() {
        let mut refused = Refused::default();
        let mut described = 0;
        for index in (0..100).map(|number| (number * 37) % 100) {
            refused.add(index, Reason::Malformed, || {
                described += 1;
                malformed(index)
            });
        }
        assert_eq!(refused.first.iter().map(|(index, _)| *index).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
        assert!(refused.count() == 100 && described < 60, "{described}");
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
