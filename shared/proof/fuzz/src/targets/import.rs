//! The exports of other counters.

use footfall::{Imported, imported};
use footfall_shared::protocol::{ROW_VIEWS_MAX, User};
use footfall_shared::service::clock;

pub(crate) fn read(bytes: &[u8]) {
    let nobody = User::parse(b"nobody").expect("an id");
    let records = imported(bytes, &nobody);
    for Imported { article, user, views, .. } in &records {
        assert!((1..=255).contains(&article.as_bytes().len()) && (1..=128).contains(&user.as_bytes().len()));
        assert!((1..=ROW_VIEWS_MAX).contains(views), "{views}");
    }
    // As a table of our own, it is the same.
    let mut table = csv::Writer::from_writer(vec![]);
    table.write_record(["article", "user", "views", "date"]).expect("memory");
    for Imported { article, user, minute, views } in &records {
        let date = if *minute == 0 { String::new() } else { clock::rfc3339(u64::from(*minute) * 60_000) };
        table.write_record([article.as_str(), user.as_str(), &views.to_string(), &date]).expect("memory");
    }
    let table = table.into_inner().expect("memory");
    assert_eq!(imported(&table, &nobody), records, "{}", String::from_utf8_lossy(&table));
}
