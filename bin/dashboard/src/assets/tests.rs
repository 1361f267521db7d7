use std::collections::BTreeSet;

use super::*;

fn scripts() -> impl Iterator<Item = &'static Asset> {
    ASSETS.iter().filter(|asset| asset.name.ends_with(".js"))
}

#[test]
fn every_file_is_served_and_used() {
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/page")).expect("the folder");
    let mut there: BTreeSet<String> =
        folder.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name")).collect();
    assert!(there.remove("index.html") && there.remove("login.html"));
    assert_eq!(there, ASSETS.iter().map(|asset| asset.name.to_owned()).collect());
    let mut used = BTreeSet::new();
    for text in [PAGE, LOGIN].into_iter().chain(scripts().map(|asset| asset.text)) {
        for (begin, end) in [(" from './", "'"), ("\"/assets/", "\"")] {
            used.extend(text.split(begin).skip(1).filter_map(|rest| rest.split(end).next()));
        }
    }
    assert_eq!(used, ASSETS.iter().map(|asset| asset.name).collect());
    assert_eq!(find("/assets/app.css").map(|asset| asset.content_type), Some("text/css; charset=utf-8"));
    assert_eq!(find("/assets/app.js").map(|asset| asset.content_type), Some("text/javascript; charset=utf-8"));
    assert!(find("/assets/index.html").is_none() && find("/assets/").is_none() && find("app.js").is_none());
}

#[test]
fn nothing_needs_what_the_policy_forbids() {
    for page in [PAGE, LOGIN] {
        assert!(!page.contains("style=") && !page.contains("<style") && !page.contains(" onclick"));
        assert!(page.matches("<script").count() == page.matches("<script type=\"module\" src=").count());
    }
    for script in scripts() {
        for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "'style'"] {
            assert!(!script.text.contains(word), "{} has {word}", script.name);
        }
    }
}

// ---- the two languages ----

/// Digits are not part of a key: the page puts them back.
fn key(message: &str) -> String {
    let mut key = String::new();
    for character in message.chars() {
        if !character.is_ascii_digit() {
            key.push(character);
        } else if !key.ends_with('#') {
            key.push('#');
        }
    }
    key
}

/// What is in double quotes, outside of comments, with the rest of its line.
fn literals(script: &str) -> Vec<String> {
    let lines = script.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.flat_map(|line| line.split('"').skip(1).step_by(2)).map(key).collect()
}

fn dictionary() -> Vec<(String, String)> {
    let chinese = find("/assets/chinese.js").expect("the dictionary").text;
    let lines = chinese.lines().filter_map(|line| line.trim().strip_prefix('"')?.strip_suffix("\","));
    lines.map(|line| line.split_once("\": \"").expect("a message in both languages")).map(own).collect()
}

fn own((english, chinese): (&str, &str)) -> (String, String) {
    (english.to_owned(), chinese.to_owned())
}

/// What a page shows before a script has run, and the attributes that are read out.
fn written_in(page: &str) -> Vec<String> {
    let between = |mark: &str| -> Vec<String> {
        let parts = page.split(mark).skip(1);
        parts.map(|rest| rest.split(['<', '"']).next().unwrap_or_default().to_owned()).collect()
    };
    let attribute = |name: &str, mark: &str| -> Vec<String> {
        let begin = format!("{name}=\"");
        let tags = page.split('<').filter(|tag| tag.contains(mark));
        let values = tags.map(|tag| tag.split(&begin).nth(1).and_then(|rest| rest.split('"').next()));
        values.map(|value| value.expect("what is marked is there").to_owned()).collect()
    };
    [between("data-say>"), attribute("aria-label", "data-say-label"), attribute("placeholder", "data-say-placeholder")]
        .concat()
}

/// The messages in code: every string literal with a space in it, except what goes to logs and metrics.
fn messages_in(source: &str) -> Vec<String> {
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = code.lines().map(str::trim).filter(|line| !line.starts_with("//"));
    let code = lines.collect::<Vec<_>>().join("\n").replace("\\\n", "");
    let mut said = Vec::new();
    let mut rest = code.as_str();
    while let Some(begin) = rest.find('"') {
        let (before, quoted) = rest.split_at(begin);
        let mut end = 1;
        while !quoted[end..].starts_with('"') {
            end += if quoted[end..].starts_with('\\') {
                2
            } else {
                quoted[end..].chars().next().map_or(1, char::len_utf8)
            };
        }
        let before = before.trim_end();
        let is_for_others = ["info!(", "warn!(", "error!(", "debug!(", "expect(", "unreachable!("]
            .iter()
            .any(|call| before.ends_with(call));
        let text = &quoted[1..end];
        let said_so = holes(text);
        if text.contains(' ') && said_so.contains(char::is_alphabetic) && !is_for_others {
            said.push(said_so);
        }
        rest = &quoted[end + 1..];
    }
    said
}

/// `{missing} views` as the page sees it: `# views`. What comes behind the last `: ` may be anything: the page
/// translates what is before it.
fn holes(text: &str) -> String {
    let is_open = |(_, rest): &(&str, &str)| rest.ends_with('}') && rest.matches('}').count() == 1;
    let text = text.split_once(": {").filter(is_open).map_or(text, |(head, _)| head);
    let mut said = String::new();
    for (index, part) in text.split(['{', '}']).enumerate() {
        said.push_str(if index % 2 == 0 { part } else { "#" });
    }
    key(&said)
}

/// The files that make messages for the page, and hardly anything else.
const MESSAGES: [&str; 6] = [
    include_str!("../feed.rs"),
    include_str!("../feed/health.rs"),
    include_str!("../reader.rs"),
    include_str!("../snapshot.rs"),
    include_str!("../events.rs"),
    include_str!("../instances.rs"),
];

/// Parts of files with messages for the page: file, begin, end.
const REASONS: [(&str, &str, &str); 6] = [
    (include_str!("../../../ingest/src/batch/status.rs"), "fn said(", "impl Status"),
    (include_str!("../../../ingest/src/request.rs"), "fn note(self)", "impl Rejection"),
    (include_str!("../../../ingest/src/visitor.rs"), "const UNKNOWN_PROXY", "impl Visitors"),
    (include_str!("../lists/cache.rs"), "pub(crate) async fn respond", "async fn read("),
    (include_str!("../lists/json.rs"), "fn missing(&self)", "fn spans("),
    (include_str!("../../../../shared/src/stores/reads/numbers.rs"), "const NO_REDIS", "impl ArticleNumbers"),
];

#[test]
fn everything_is_said_in_both_languages() {
    let dictionary = dictionary();
    let known: BTreeSet<&str> = dictionary.iter().map(|(english, _)| english.as_str()).collect();
    assert_eq!(known.len(), dictionary.len(), "a message is there twice");
    let of_page = scripts().filter(|script| script.name != "chinese.js").flat_map(|script| literals(script.text));
    let of_page: BTreeSet<String> = of_page.chain(written_in(PAGE)).chain(written_in(LOGIN)).collect();
    let of_dashboard = MESSAGES.iter().flat_map(|source| messages_in(source));
    let reasons = REASONS.iter().flat_map(|(source, begin, end)| {
        let (_, rest) = source.split_once(begin).expect("it begins there");
        messages_in(rest.split_once(end).expect("it ends there").0)
    });
    let said: BTreeSet<String> = of_page.iter().cloned().chain(of_dashboard).chain(reasons).collect();
    assert!(said.len() > 150, "only {} messages were found", said.len());
    let missing: Vec<&String> = said.iter().filter(|message| !known.contains(message.as_str())).collect();
    assert!(missing.is_empty(), "chinese.js lacks: {missing:#?}");
    // Files whose other messages are not for the page: known, but not required.
    let others = [
        include_str!("../lib.rs"),
        include_str!("../routes/rejection.rs"),
        include_str!("../../../flusher/src/flush.rs"),
        include_str!("../../../flusher/src/lib.rs"),
        include_str!("../../../ingest/src/batch/status.rs"),
    ];
    let others: BTreeSet<String> = others.iter().flat_map(|source| messages_in(source)).collect();
    let is_left_over = |english: &&&str| !said.contains(**english) && !others.contains(**english);
    let left_over: Vec<&&str> = known.iter().filter(is_left_over).collect();
    assert!(left_over.is_empty(), "chinese.js has what nobody says: {left_over:#?}");
    for (english, chinese) in &dictionary {
        assert_eq!(english.matches('#').count(), chinese.matches('#').count(), "{english}");
    }
}

#[test]
fn every_text_of_the_pages_is_marked() {
    for page in [PAGE, LOGIN] {
        let body = page.split("<body").nth(1).expect("a body");
        let body = body.split("<noscript>").next().unwrap_or_default().to_owned()
            + body.split("</noscript>").nth(1).unwrap_or_default();
        for part in body.split('<').skip(1) {
            let (tag, text) = part.split_once('>').expect("a tag");
            let is_name = tag.starts_with('/') && text.trim() == "Footfall" || tag == "/svg";
            let is_fine = text.trim().is_empty() || text.trim() == "–" || tag.contains("data-say") || is_name;
            assert!(is_fine, "not marked with data-say: <{tag}>{text}");
            assert!(!tag.contains("aria-label=") || tag.contains("data-say-label"), "<{tag}>");
        }
    }
}

#[test]
fn messages_are_found_wherever_they_are() {
    assert_eq!(literals("// a \"comment\"\nsay(\"Last 60 minutes\"); f('x', \"y\")"), ["Last # minutes", "y"]);
    let source = "/// \"no\"\nlet a = format!(\"is behind; {seconds} s\");\nwarn!(\"to the log\");\nHealth::because(x, \"a b \\\n  c\")\n\
                  format!(\"Redis says this: {error}\") \"oneword\"\n#[cfg(test)] \"a test\"";
    assert_eq!(messages_in(source), ["is behind; # s", "a b c", "Redis says this"]);
}
