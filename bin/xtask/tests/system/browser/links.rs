//! The dashboard by a link in a page of another site, as in a mail that is read in a browser.

use footfall_drill::stack::Role;
use serde_json::json;

use super::driver::start_with_browser;
use super::snippet::Site;
use super::{PATIENT, SOON};
use crate::access::TOKEN;
use crate::common::{Set, eventually, get};

#[test]
fn a_link_from_another_site_shows_the_dashboard() {
    let (running, browser) = start_with_browser(|options| {
        options.dashboards = 1;
        options.addresses.dashboard = ([0, 0, 0, 0], 0).into();
        options.set("FOOTFALL_DASHBOARD__TOKEN", TOKEN);
    });
    // For a browser `localhost` and 127.0.0.1 are two sites.
    let dashboard = running.stack.url(Role::Dashboard, 0).replace("0.0.0.0", "localhost");
    eventually("a dashboard", SOON, || {
        get(&format!("{}/readyz", dashboard.replace("localhost", "127.0.0.1"))).status == 200
    });
    assert_eq!(get(&format!("{}/demopage/yumo?usrid=1", running.ingest())).status, 200);
    let mail = Site::new();
    let (here, link) = (mail.url(), format!("{dashboard}/#/article/yumo"));
    mail.serve("", move |_| {
        format!(
            "<a id=\"link\" href=\"{link}\">what is read</a>\
             <form method=\"post\" action=\"{dashboard}/login\"><input name=\"token\" value=\"{TOKEN}\"><button id=\"log-in\">Win</button></form>"
        )
    });

    // A page of another site cannot log somebody in, to watch what they look at.
    browser.visit(&here);
    browser.click("#log-in");
    browser.wait_for("body", "a page of another site may not log in here", PATIENT);

    // Who has not logged in sees the form, and then what the link names.
    let article = || {
        browser.wait_for("#connection", "live", PATIENT);
        browser.wait_for("#article-views", "1", SOON);
        assert_eq!(browser.run("return location.hash"), "#/article/yumo");
    };
    browser.visit(&here);
    browser.click("#link");
    browser.send("#token", TOKEN);
    article();

    // Who has logged in sees it at once, and so after loading it again.
    browser.visit(&here);
    browser.click("#link");
    article();
    browser.reload();
    article();

    // What is not a link comes without the cookie.
    browser.visit(&here);
    let answer = "return fetch(document.querySelector('a').href, { credentials: 'include', mode: 'no-cors' }).then(
        ({ type, status }) => [type, status], () => 'refused')";
    assert!([json!(["opaque", 0]), json!("refused")].contains(&browser.run(answer)));
}
