//! The report tells what happened, as text, as JSON and as a page that a browser shows without running or fetching anything.

use std::fs;

use crate::browser::Browser;
use crate::site::{Site, have};

/// A partner that sent two files, of which one was read, and was refused a third.
fn busy() -> Site {
    let site = Site::prepared();
    let path = site.place().policy("partner");
    let policy = fs::read_to_string(&path).unwrap();
    fs::write(&path, policy.replacen("expire = \"72h\"\n", "expire = \"72h\"\nrefuse = [\"*.exe\"]\n", 1)).unwrap();
    let mut site = site;
    site.start().unwrap();
    let partner = site.partner();
    // A name that would run in a page that is not careful.
    let name = "<img src=x onerror=alert(1)>.dcm";
    partner.put(&site.file("b", b"second"), &format!("/radiology/{name}"));
    partner.put(&site.file("a.dcm", b"first"), "/radiology/a.dcm");
    site.file("c.exe", b"third");
    partner.sftp("put c.exe /radiology/").fails();
    site.recipient("radiology").get("/inbox/partner/a.dcm");
    site.wait_for_event("download-ended", 1);
    site
}

#[test]
fn a_period_is_told_in_numbers_that_add_up() {
    let site = busy();
    let report = site.ask(&["report"]).remove(0);
    for (key, number) in
        [("received", 2), ("picked_up", 1), ("refused", 1), ("not_picked_up", 1), ("received_bytes", 11)]
    {
        assert_eq!(report[key], number, "{key} in {report}");
    }
    assert_eq!(report["disclosures"][0]["recipient"], "radiology");
    assert!(report["not_picked_up_drops"][0]["path"].as_str().unwrap().contains("onerror"), "{report}");
    assert_eq!(report["safeguards"].as_array().unwrap().len(), 8);
    let text = site.sealdrop(&["report"]).ok();
    assert!(text.contains("164.312(b)") && text.contains("partner"), "{text}");
    let nothing = site.ask(&["report", "--from", "2020-01-01", "--to", "2020-02-01"]).remove(0);
    assert_eq!((&nothing["events"], &nothing["received"]), (&0.into(), &0.into()));
    site.sealdrop(&["report", "--from", "2026-02-01", "--to", "2026-01-01"]).fails_with(1);
    site.sealdrop(&["report", "--from", "soon"]).fails_with(2);
    let list = site.work().join("disclosures.csv");
    site.sealdrop(&["report", "--disclosures", list.to_str().unwrap()]).ok();
    let list = fs::read_to_string(list).unwrap();
    assert_eq!(list.lines().count(), 2, "{list}");
    assert!(list.contains(",radiology,") && list.contains("/inbox/partner/a.dcm"), "{list}");
}

#[test]
fn the_page_shows_in_a_browser_and_asks_for_nothing() {
    let site = busy();
    if !have("chromium") {
        return;
    }
    let page = site.work().join("report.html");
    site.sealdrop(&["report", "--html", page.to_str().unwrap()]).ok();
    let mut browser = Browser::watched(&page, "");
    assert_eq!(browser.value("document.querySelectorAll('svg').length"), 2);
    let bars = browser.value("[...document.querySelectorAll('svg rect')].filter(r => r.getBBox().height > 20).length");
    assert!(bars.as_u64() >= Some(2), "bars that can be seen: {bars}");
    assert_eq!(browser.value("document.querySelectorAll('script, img, link, iframe').length"), 0);
    let text = browser.value("document.body.innerText");
    let text = text.as_str().unwrap();
    for told in
        ["<img src=x onerror=alert(1)>.dcm", "164.312(a)(2)(iv)", "45 CFR 164.528", "radiology", "Not picked up"]
    {
        assert!(text.contains(told), "{told} is not in\n{text}");
    }
    // Its style is let in, so the page looks as it should.
    assert_eq!(browser.value("getComputedStyle(document.querySelector('.axis')).stroke"), "rgb(216, 222, 228)");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn what_is_unlike_a_users_past_is_told_with_an_exit_code() {
    let site = busy();
    assert!(site.sealdrop(&["audit", "anomalies"]).ok().contains("nothing unusual since "));
    let settings = site.place().config();
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, format!("{text}\n[anomalies]\npulls_min = 1\n")).unwrap();
    let ran = site.sealdrop(&["--json", "audit", "anomalies"]);
    assert_eq!(ran.status.code(), Some(4), "{}", ran.told());
    let found: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(
        (&found["kind"], &found["user"], &found["seen"]),
        (&"mass-download".into(), &"radiology".into(), &1.into())
    );
}
