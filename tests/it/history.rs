//! Policy over time: which one was in force when a drop came, what it said, what it would have decided, and what another
//! expiry would have done to the drops there were.

use std::fs;

use crate::run::run;
use crate::site::{Site, content};

/// The moment of an event, with its milliseconds.
fn moment(event: &serde_json::Value) -> String {
    event["at"].as_str().unwrap().to_owned()
}

/// Changes the partner's policy and puts it in force.
fn change(site: &Site, from: &str, to: &str) {
    let file = site.place().policy("partner");
    let before = fs::read_to_string(&file).unwrap();
    assert!(before.contains(from), "{before}");
    fs::write(&file, before.replace(from, to)).unwrap();
    site.sealdrop(&["reload"]).ok();
}

#[test]
fn a_receipts_policy_can_be_read_and_asked_long_after_it_was_replaced() {
    let mut site = Site::new();
    site.partner().put(&site.file("a.dcm", b"x"), "/radiology/a.dcm");
    let committed = &site.events_of("upload-committed", "/radiology/a.dcm")[0];
    let (at, then) = (moment(committed), committed["policy"].as_str().unwrap().to_owned());
    change(&site, "/radiology", "/x-rays");
    site.restart();
    let kept = site.ask(&["policy", "list"]);
    assert_eq!(kept.len(), 2, "a restart under the same policy adds none: {kept:?}");
    assert_eq!((&kept[0]["policy"], &kept[0]["until"]), (&then.as_str().into(), &kept[1]["since"]));
    assert_eq!(kept[1]["until"], serde_json::Value::Null);

    let asked = |words: &[&str]| {
        let ran = site.sealdrop(&[&["explain", "partner", "put", "/radiology/a.dcm", "--json"], words].concat());
        serde_json::from_slice::<serde_json::Value>(&ran.stdout).unwrap_or_else(|_| panic!("{}", ran.told()))
    };
    let past = asked(&["--at", &at]);
    assert_eq!((&past["permitted"], &past["policy"]), (&true.into(), &then.as_str().into()));
    assert_eq!(past["in_force"]["until"], kept[1]["since"]);
    assert!(past["decided"][0]["file"].as_str().unwrap().starts_with(&format!("policy {}", &then[..12])), "{past}");
    for words in [&[][..], &["--at", &at, "--files"], &["--at", "00:00"], &["--at", "+1d"]] {
        let now = asked(words);
        assert_eq!((&now["permitted"], &now["in_force"]), (&false.into(), &serde_json::Value::Null), "{words:?}");
    }
    let shown = site.ask(&["policy", "show", "--at", &at]);
    assert_eq!(shown[0]["policy"], then.as_str());
    assert!(site.sealdrop(&["policy", "show", &then]).ok().contains("\"/radiology\""));
    let never = site.sealdrop(&["explain", "partner", "login", "--at", "2020-01-01T00:00:00Z"]).fails_with(1);
    assert!(never.contains("no policy that was in force") && never.contains("--files"), "{never}");
    site.sealdrop(&["policy", "show", &"0".repeat(64)]).fails_with(1);
}

#[test]
fn no_password_hash_and_no_code_secret_is_in_the_ledger() {
    let site = Site::new();
    let mut passwd = std::process::Command::new(crate::site::SEALDROP);
    passwd.args(["passwd", "--json"]);
    let made: serde_json::Value = serde_json::from_str(&run(passwd, b"correct horse\ncorrect horse\n").ok()).unwrap();
    let hash = made["password"].as_str().unwrap();
    let totp = site.ask(&["totp", "partner"])[0]["totp"].as_str().unwrap().to_owned();
    let ways = format!(
        "[login]\npassword = \"{hash}\"\ntotp = \"{totp}\"\nrequire = [[\"publickey\"], [\"password\", \"totp\"]]"
    );
    change(&site, "[login]", &ways);
    let shown = site.sealdrop(&["policy", "show"]).ok();
    assert!(shown.contains("password = \"withheld-sha256:") && shown.contains("totp = \"withheld-sha256:"), "{shown}");
    assert!(!shown.contains(hash) && !shown.contains(&totp));
    let secret = hash.rsplit('$').next().unwrap();
    assert_eq!(site.state_contains(secret.as_bytes()), Vec::<std::path::PathBuf>::new());
    assert_eq!(site.state_contains(&totp.as_bytes()[6..]), Vec::<std::path::PathBuf>::new());
    // What was withheld is no mistake that can be put in force.
    let file = site.place().policy("partner");
    let policy = fs::read_to_string(&file).unwrap();
    fs::write(&file, policy.replace(hash, &format!("withheld-sha256:{}", "0".repeat(64)))).unwrap();
    let said = site.sealdrop(&["reload"]).fails();
    assert!(said.contains("password"), "{said}");
}

#[test]
fn another_expiry_is_tried_on_the_drops_there_were() {
    let site = Site::new();
    for name in ["fetched.dcm", "left.dcm"] {
        site.partner().put(&site.file(name, &content(name, 2048)), &format!("/radiology/{name}"));
    }
    site.recipient("radiology").get("/inbox/partner/fetched.dcm");
    site.wait_for_event("download-ended", 1);
    let tried = |words: &[&str]| site.ask(&[&["retain"], words].concat());
    // Longer than anything is old: nothing is over yet.
    let long = tried(&["--what-if", "30d"]);
    let total = long.last().unwrap();
    assert_eq!((&total["fetched"], &total["unfetched"], &total["open"]), (&1.into(), &0.into(), &1.into()), "{long:?}");
    // No time at all: neither was fetched at once, and one would have been missed.
    let none = tried(&["--what-if", "0s", "--drops"]);
    let total = none.last().unwrap();
    assert_eq!((&total["unfetched"], &total["missed"], &total["open"]), (&2.into(), &1.into(), &0.into()), "{none:?}");
    assert_eq!(none.iter().filter(|row| row["drop"].is_string()).count(), 2, "{none:?}");
    assert_eq!(none.iter().filter(|row| row["folder"] == "/radiology").count(), 1, "{none:?}");
    assert_eq!(tried(&["--what-if", "0s", "--user", "lab"]).last().unwrap()["deliveries"], 0);
    assert_eq!(tried(&["--what-if", "0s", "--folder", "/lab"]).last().unwrap()["deliveries"], 0);
    assert_eq!(tried(&["--what-if", "0s", "--since", "2100-01-01T00:00:00Z"]).last().unwrap()["deliveries"], 0);
    assert!(site.sealdrop(&["retain", "--what-if", "0s"]).ok().contains("would have been missed"));
    site.sealdrop(&["retain"]).fails_with(2);
}
