//! One view in a body: from a JSON object to what was sent, or to what is wrong with it. Pure.

use std::borrow::Cow;
use std::fmt;

use footfall_shared::protocol::{Article, IdError, User, ViewId};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::malformed;
use crate::request::{self, Reason, Rejection, Sent};

/// What is wrong with one view.
pub(super) enum Wrong<'a> {
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
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Id(_) | Self::NoPath(_) => Reason::BadId,
            _ => Reason::Malformed,
        }
    }

    pub(super) fn rejection(&self) -> Rejection {
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

/// One view.
pub(super) fn view(json: &str) -> Result<Sent, Wrong<'_>> {
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
