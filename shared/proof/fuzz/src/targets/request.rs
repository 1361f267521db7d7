//! What clients send to ingest: a path with a query, and a body.

use footfall_ingest::posted::{Many, Posted, posted as read_body};
use footfall_ingest::request::{Rejection, Sent, article_in_path, article_in_query, user_in_query, view_id_in_query};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

/// No answer repeats more than this of what was sent.
const MESSAGE_BYTES_MAX: usize = 1_000;

fn assert_one_sentence(rejection: &Rejection) {
    let Rejection { reason, message } = rejection;
    assert!(reason.status().is_client_error(), "{rejection:?}");
    assert!(message.len() <= MESSAGE_BYTES_MAX && !message.chars().any(char::is_control), "{rejection:?}");
}

fn assert_id(id: &str, bytes_max: usize) {
    assert!((1..=bytes_max).contains(&id.len()) && !id.chars().any(char::is_control), "{id:?}");
}

/// Up to the first `?` a path, behind it a query.
pub(crate) fn query(bytes: &[u8]) {
    // What is no ASCII does not get through the HTTP library.
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
    match article_in_path(path) {
        Ok(article) => {
            assert_id(article.as_str(), 255);
            let encoded = utf8_percent_encode(article.as_str(), NON_ALPHANUMERIC).to_string();
            assert_eq!(article_in_path(&encoded).as_ref(), Ok(&article), "a path");
            assert_eq!(article_in_query(Some(&format!("a={encoded}")), "a"), Ok(article), "a query");
        }
        Err(rejection) => assert_one_sentence(&rejection),
    }
    match user_in_query(query, "user") {
        Ok(Some(user)) => {
            assert_id(user.as_str(), 128);
            let encoded = utf8_percent_encode(user.as_str(), NON_ALPHANUMERIC).to_string();
            assert_eq!(user_in_query(Some(&format!("x&user={encoded}")), "user"), Ok(Some(user)));
        }
        Ok(None) => {}
        Err(rejection) => assert_one_sentence(&rejection),
    }
    match view_id_in_query(query, "id") {
        Ok(id) => id.iter().for_each(|id| assert_id(std::str::from_utf8(id.as_bytes()).expect("text"), 64)),
        Err(rejection) => assert_one_sentence(&rejection),
    }
}

/// The first byte says how many views are allowed, and whether it is sent as lines.
pub(crate) fn posted(bytes: &[u8]) {
    let Some((first, body)) = bytes.split_first() else { return };
    let (views_max, is_ndjson) = (1 + usize::from(first >> 1) % 16, first & 1 == 1);
    let many = match read_body(body, is_ndjson, views_max) {
        Ok(Posted::One(sent)) => Many { sent: vec![(0, sent)], ..Many::default() },
        Ok(Posted::Many(many)) => many,
        Err(rejection) => return assert_one_sentence(&rejection),
    };
    let rejected = many.rejected.count();
    assert!(many.sent.len() + rejected <= views_max, "{many:?}");
    assert_eq!(many.rejected.first.len(), rejected.min(10), "{many:?}");
    many.rejected.first.iter().for_each(|(_, rejection)| assert_one_sentence(rejection));
    let mut places: Vec<usize> = many.sent.iter().map(|(index, _)| *index).collect();
    assert!(places.is_sorted_by(|a, b| a < b), "{many:?}");
    places.extend(many.rejected.first.iter().map(|(index, _)| *index));
    assert!(places.iter().all(|place| *place < views_max), "{many:?}");

    // Written again in all three forms, they are the same.
    let views: Vec<Sent> = many.sent.into_iter().map(|(_, sent)| sent).collect();
    let objects: Vec<String> = views.iter().map(object).collect();
    let again = |body: &str, is_ndjson| match read_body(body.as_bytes(), is_ndjson, views_max) {
        Ok(Posted::One(sent)) => vec![sent],
        Ok(Posted::Many(many)) => many.sent.into_iter().map(|(_, sent)| sent).collect(),
        Err(rejection) => panic!("{body}: {rejection}"),
    };
    if let Some(object) = objects.first() {
        assert_eq!(again(&format!("[{}]", objects.join(",")), false), views);
        assert_eq!(again(&objects.join("\n"), true), views);
        assert_eq!(again(object, false), views[..1]);
    }
}

fn object(Sent { article, user, id }: &Sent) -> String {
    let id = id.as_ref().map(|id| std::str::from_utf8(id.as_bytes()).expect("text"));
    json!({ "article": article.as_str(), "user": user.as_ref().map(|user| user.as_str()), "id": id }).to_string()
}
