use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

fn open(bytes: &[u8], nobody: Option<&str>) -> Result<Reader> {
    let nobody = nobody.map(|user| User::parse(user.as_bytes()).expect("test id"));
    Reader::open(Source::of(bytes), Arc::default(), nobody, 1)
}

/// `article user minute views` of each record, or the sentence about a line.
fn lines(bytes: &[u8], nobody: Option<&str>) -> Vec<String> {
    let mut reader = open(bytes, nobody).unwrap_or_else(|failure| panic!("{failure}"));
    std::iter::from_fn(|| match reader.next() {
        Ok(None) => None,
        Ok(Some(Record { article, user, minute, views, .. })) => Some(format!("{article} {user} {minute} {views}")),
        Err(Bad::Line(why)) => Some(why),
        Err(Bad::Rest(failure)) => panic!("{failure}"),
    })
    .collect()
}

fn refusal(bytes: &[u8]) -> String {
    match open(bytes, None) {
        Ok(_) => panic!("it is taken"),
        Err(failure) => failure.to_string(),
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(vec![], Compression::fast());
    packed.write_all(bytes).expect("memory");
    packed.finish().expect("memory")
}

fn utf16(text: &str) -> Vec<u8> {
    [0xfeff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
}

/// Minutes since 1970 of 2026-07-09 00:00 UTC.
const JULY_9: u32 = 29_725_920;

/// As GoatCounter writes it: <https://www.goatcounter.com/help/export>.
const GOATCOUNTER: &str = "2Path,Title,Event,UserAgent,Browser,System,Session,Bot,Referrer,Referrer scheme,Screen size,Location,FirstVisit,Date\n\
    /,Home,false,,Chrome,Mac OS,s1,0,,,1440x900,KR-11,true,2026-07-09T01:00:00Z\n\
    \"/a, \"\"b\"\"\",\"A,\nB\",false,,Chrome,Mac OS,s1,0,Google,g,1440x900,KR-11,false,2026-07-09T03:05:59+02:00\n\
    /,Home,false,,Chrome,Linux,s3,1,,,1280x720,DE,true,2026-07-09T02:00:00Z\n\
    download,CV,true,,Chrome,Mac OS,s4,0,,,1440x900,KR-11,true,2026-07-09T03:00:00Z\n\
    /,Home,false,,Safari,iOS,,0,,,390x844,JP,true,2026-07-09T04:00:00Z\n\
    /,Home,false,,Safari,iOS,s5,0,,,390x844,JP,true,not-a-date\n";

#[test]
fn goatcounters_export_is_read_hit_by_hit_packed_or_not() {
    let hour = |hours: u32, minutes: u32| JULY_9 + 60 * hours + minutes;
    let expected = vec![
        format!("/ s1 {} 1", hour(1, 0)),
        format!("/a, \"b\" s1 {} 1", hour(1, 5)),
        format!("/ unknown {} 1", hour(4, 0)),
        "line 8: `not-a-date` is no date: it must be such as 2026-07-09, 2026-07-09 01:00:00 or 2026-07-09T01:00:00Z"
            .into(),
    ];
    let crlf = GOATCOUNTER.replace('\n', "\r\n");
    // Two members, as `cat a.gz b.gz` makes them.
    let (first, second) = GOATCOUNTER.as_bytes().split_at(200);
    let packed = [gzip(first), gzip(second)].concat();
    for (form, bytes) in [
        ("as it is", GOATCOUNTER.as_bytes()),
        ("CRLF", crlf.as_bytes()),
        ("gzip", &packed),
        ("UTF-16", &utf16(GOATCOUNTER)),
    ] {
        assert_eq!(lines(bytes, Some("unknown")), expected, "{form}");
    }
    let mut reader = open(GOATCOUNTER.as_bytes(), None).expect("it is read");
    while !matches!(reader.next(), Ok(None)) {}
    assert_eq!(reader.left_out, LeftOut { bots: 1, events: 1, without_views: 0 });
    assert!(reader.has_dates() && reader.layout().starts_with("GoatCounter"));
    // The version before.
    let old = "1Path,Title,Event,Bot,Session,FirstVisit,Referrer,Referrer scheme,Browser,Screen size,Location,Date\n\
               /,,false,0,s,true,,,,,,2020-01-01T00:00:00Z\n";
    assert_eq!(lines(old.as_bytes(), None), ["/ s 26297280 1"]);
    assert!(refusal(old.replace("1Path", "3Path").as_bytes()).contains("version 3"));
}

#[test]
fn matomos_reports_are_read_in_every_form() {
    let text =
        "label,nb_visits,nb_hits,metadata_url\n/blog/a,2,3,https://example.com/blog/a?p=1#top\n/b,1,0,\n\"'=c\",1,2,\n";
    let expected = ["/blog/a?p=1 u 0 3", "=c u 0 2"];
    let tabs = text.replace(',', "\t");
    for bytes in [text.as_bytes(), tabs.as_bytes(), &utf16(text), &utf16(&tabs), &gzip(&utf16(text))] {
        assert_eq!(lines(bytes, Some("u")), expected);
    }
    let translated = "\u{feff}Label,Unique Pageviews,Pageviews,Metadata: url\nx,2,3,https://example.com\n";
    assert_eq!(lines(translated.as_bytes(), Some("u")), ["/ u 0 3"]);
    let by_day = "date,label,nb_visits,nb_hits\n2026-07-09,/a,1,3\n2026-07,/a,1,3\n";
    let read = lines(by_day.as_bytes(), Some("u"));
    assert!(read[0] == format!("/a u {JULY_9} 3") && read[1].starts_with("line 3: `2026-07` is no date"), "{read:?}");
    let nested = "label,nb_hits,idsubdatatable\nblog,9,4\n/a,1,\n";
    let read = lines(nested.as_bytes(), Some("u"));
    assert!(read[0].contains("flat=1") && read[1] == "/a u 0 1", "{read:?}");
}

#[test]
fn tables_are_read_by_the_names_of_their_columns() {
    let table = "views,article,note,user\n3,\"a, b\",x,u\n4,c,,\n";
    assert_eq!(lines(table.as_bytes(), Some("nobody")), ["a, b u 0 3", "c nobody 0 4"]);
    assert_eq!(lines(table.replace(',', ";").as_bytes(), Some("nobody")), ["a; b u 0 3", "c nobody 0 4"]);
    let plain = "article,views,date\na,1,2026-07-09 00:01:00\na,1,\n";
    assert_eq!(lines(plain.as_bytes(), Some("u")), [format!("a u {} 1", JULY_9 + 1), "a u 0 1".into()]);
    let plausible = "date,hostname,page,visits,visitors,pageviews\n2026-07-09,example.com,/a,1,1,5\n";
    assert_eq!(lines(plausible.as_bytes(), Some("u")), [format!("/a u {JULY_9} 5")]);
    // What was made safe for spreadsheets.
    let guarded = "\"'article\",\"'user\",\"views\"\n\"'=1+1\",\"''x\",\"2\"\n\"a\",\"u\",\"1\"\n";
    assert_eq!(lines(guarded.as_bytes(), None), ["=1+1 'x 0 2", "a u 0 1"]);
    assert_eq!(lines(b"article,views\n", None), [""; 0]);
}

#[test]
fn what_cannot_be_read_is_refused_with_what_to_do() {
    for (bytes, said) in [
        (&b""[..], "it is empty"),
        (b"a,b\n1,2\n", "`article`"),
        (b"article\na\n", "`article`, `views`"),
        (b"article,views,article\na,1,b\n", "`article` twice"),
        (b"PK\x03\x04", "unzip -p FILE | footfall import -"),
        (b"\x28\xb5\x2f\xfd\x00", "zstdcat"),
        (b"a\0r\0t\0i\0c\0l\0e\0", "iconv"),
        (b"{\"article\":\"a\"}", "`article`"),
        (b"\x1f\x8b\x08", "cannot be read"),
    ] {
        let refused = refusal(bytes);
        assert!(refused.contains(said) && refused.contains("nothing was counted"), "{refused}");
    }
}

#[test]
fn each_bad_line_is_told_with_its_number() {
    let table = "article,user,views,date\na,u,1,\n,u,1,\na,,1,\na,u,0,\na,u,-3,\na,u\na,u,18446744073709551615,\n\
                 a,u,99999999999999999999,\na,u,1,1970-01-01\na,u,1,2999-01-01T00:00:00Z\na,u,1,2026-02-30\na,u,1,2026-7-9\n";
    let expected = [
        "",
        "empty",
        "--user",
        "`0`",
        "`-3`",
        "2 fields",
        "too many",
        "too many",
        "before 1990",
        "in the future",
        "no date",
        "no date",
    ];
    let read = lines(table.as_bytes(), None);
    assert_eq!(read.len(), expected.len(), "{read:?}");
    for (index, (read, expected)) in read.iter().zip(expected).enumerate().skip(1) {
        assert!(read.starts_with(&format!("line {}: ", index + 2)) && read.contains(expected), "{expected}: {read}");
    }
    assert!(lines(b"article,user,views\n\xff,u,1\n", None)[0].contains("not valid UTF-8"));
}

#[test]
fn a_record_that_does_not_end_is_not_read_into_memory() {
    let mut text = b"article,user,views\na,u,1\n\"a,u,1\n".to_vec();
    text.resize(4 * 1024 * 1024, b'\n');
    let mut reader = open(&text, None).expect("it begins well");
    assert!(matches!(reader.next(), Ok(Some(_))));
    match reader.next() {
        Err(Bad::Rest(failure)) => assert!(failure.to_string().contains("quotation mark"), "{failure}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_archive_that_was_cut_off_counts_nothing() {
    let packed = gzip(&format!("article,user,views\n{}", "a,u,1\n".repeat(100_000)).into_bytes());
    let mut reader = open(&packed[..packed.len() - 9], None).expect("it begins well");
    let last = std::iter::from_fn(|| Some(reader.next())).find(|next| !matches!(next, Ok(Some(_))));
    match last {
        Some(Err(Bad::Rest(failure))) => assert!(failure.to_string().contains("to its end"), "{failure}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn days_and_times_are_minutes_since_1970() {
    let now = 1_800_000_000;
    for (text, minute) in [
        ("2026-07-09", JULY_9),
        ("2026-07-09T00:00:00Z", JULY_9),
        ("2026-07-09 00:00:59", JULY_9),
        ("2026-07-09 02:00:00+02:00", JULY_9),
        ("2026-07-08T23:59:00.5-00:01", JULY_9),
        ("2024-02-29", 28_486_080),
    ] {
        assert_eq!(parse_minute(text.as_bytes(), now), Ok(minute), "{text}");
    }
    for text in ["2026", "2026-13-01", "2026/07/09", "09.07.2026", "2026-07-09T", "2026-07-0\u{e9}", "\u{661}026-07-09"]
    {
        assert!(parse_minute(text.as_bytes(), now).is_err(), "{text}");
    }
    // No clock ends it.
    for now in [i64::MIN, 0, i64::MAX] {
        let _ = parse_minute(b"9999-12-31T23:59:59Z", now);
    }
}
