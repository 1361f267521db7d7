//! The dashboard does what its OpenAPI document says, for requests that follow the document and for those that do not.
//!
//! `FOOTFALL_TEST_EXAMPLES=1000` asks more of them.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::access::{TOKEN, start_open};
use crate::common::{Set, eventually, get, output};

/// Closes every object, so that a field which the document does not name is found. Clients see them open: a field that
/// is added must not break them.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.contains_key("properties") {
                fields.insert("additionalProperties".into(), false.into());
            }
            fields.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

#[test]
fn the_dashboard_does_what_its_document_says() {
    let tools = xtask::python::environment().unwrap_or_else(|error| panic!("{error:#}"));
    // With a token, so that the document's words about it are checked too.
    let (running, dashboard) = start_open(|options| options.set("FOOTFALL_DASHBOARD__REQUESTS_PER_SECOND", "100000"));
    running.load("l.tsv", "--views 3000 --articles 250 --users 300 --connections 4").finish();
    assert_eq!(get(&format!("{}/demopage/yumo?usrid=123456", running.ingest())).status, 200);
    eventually("the flush", Duration::from_secs(15), || running.article("yumo")["readers"] == 1);

    // Anybody may read what can be asked.
    let mut document = get(&format!("{dashboard}/openapi.json")).json();
    close(&mut document);
    std::fs::write(running.path("openapi.json"), document.to_string()).expect("written");
    let examples = std::env::var("FOOTFALL_TEST_EXAMPLES").unwrap_or_else(|_| "10".into());
    let mut check = Command::new(tools.join("bin/st"));
    check
        .current_dir(running.path(""))
        .arg("--config-file")
        .arg(xtask::root().join("bin/xtask/tests/schemathesis.toml"))
        .args(["run", "openapi.json", "--url", &dashboard, "--header", &format!("Authorization: Bearer {TOKEN}")])
        // Ten wrong tokens, and the right one is not looked at any more: each path is tried with one.
        .args(["--generation-with-security-parameters", "false"])
        .args(["--checks", "all", "--max-examples", &examples])
        .args(["--seed", "1", "--generation-deterministic", "--continue-on-failure", "--no-color"]);
    let (fine, report) = output(check);
    println!("{report}");
    assert!(fine, "the document and the dashboard differ: see above");
}
