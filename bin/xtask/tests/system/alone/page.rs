//! How soon the page shows what was counted.

use std::time::Duration;

use footfall_drill::stack::Role;
use footfall_shared::service::clock;
use serde_json::json;

use crate::browser::driver::start_with_browser_to_measure;
use crate::browser::{PATIENT, SOON};
use crate::common::post;

/// How soon a view is seen: 99 of 100 within this.
const SEEN_MS_P99: u64 = 500;

#[test]
fn a_view_is_seen_at_once() {
    const VIEWS: u64 = 220;
    let (running, browser) = start_with_browser_to_measure(|options| options.dashboards = 1);
    browser.visit(&running.stack.url(Role::Dashboard, 0));
    browser.wait_for("#connection", "live", PATIENT);
    browser.wait_for("#views", "0", SOON);
    // Both clocks are this machine's.
    browser.run(
        "window.seen = [];
        const views = document.getElementById('views');
        new MutationObserver(() => seen.push([Date.now(), Number(views.textContent.replaceAll(',', ''))]))
            .observe(views, { childList: true, characterData: true, subtree: true });",
    );
    let view = json!({"article": "yumo", "user": "u"}).to_string();
    let url = format!("{}/v1/views", running.ingest());
    let mut acknowledged_ms = Vec::new();
    for number in 0..VIEWS {
        assert_eq!(post(&url, &view).status, 204);
        acknowledged_ms.push(clock::unix_ms());
        // At other moments of the feed's period each time.
        std::thread::sleep(Duration::from_millis(7 + number * 13 % 31));
    }
    browser.wait_for("#views", &VIEWS.to_string(), SOON);
    let seen = browser.run("return window.seen");
    let seen: Vec<(u64, u64)> = serde_json::from_value(seen).expect("pairs of numbers");
    assert!(seen.is_sorted_by_key(|(_, views)| *views), "the total went backwards: {seen:?}");
    let mut took_ms: Vec<u64> = acknowledged_ms
        .iter()
        .zip(1..)
        .map(|(acknowledged_ms, number)| {
            let (seen_ms, _) = seen.iter().find(|(_, views)| *views >= number).expect("it was seen in the end");
            seen_ms.saturating_sub(*acknowledged_ms)
        })
        .collect();
    took_ms.sort_unstable();
    let percentile = |percent: usize| took_ms[(took_ms.len() * percent).div_ceil(100) - 1];
    let (p50, p99, max) = (percentile(50), percentile(99), percentile(100));
    println!(
        "from the acknowledgement of a view to the page: p50 {p50} ms, p99 {p99} ms, max {max} ms of {VIEWS} views"
    );
    assert!(p99 <= SEEN_MS_P99, "{took_ms:?}");
}
