//! The shipped systemd files say what the code needs, and systemd agrees that they are well-formed.

use std::collections::BTreeMap;
use std::process::Command;

use crate::run::run;
use crate::site::{Site, content, have, is_root};

const SERVICE: &str = include_str!("../../systemd/sealdrop.service");
const SOCKET: &str = include_str!("../../systemd/sealdrop.socket");
const AUTH_SOCKET: &str = include_str!("../../systemd/sealdrop-auth.socket");
const AUTH_SERVICE: &str = include_str!("../../systemd/sealdrop-auth@.service");
const SYSUSERS: &str = include_str!("../../systemd/sysusers.d/sealdrop.conf");
const TMPFILES: &str = include_str!("../../systemd/tmpfiles.d/sealdrop.conf");

/// Every setting's values, in order.
fn settings(unit: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut settings: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in unit.lines().filter(|line| !line.starts_with(['#', ';', '['])) {
        if let Some((key, value)) = line.split_once('=') {
            settings.entry(key).or_default().push(value);
        }
    }
    settings
}

fn words<'a>(unit: &BTreeMap<&str, Vec<&'a str>>, key: &str) -> Vec<&'a str> {
    unit.get(key).unwrap_or_else(|| panic!("{key} is not set")).iter().flat_map(|v| v.split_whitespace()).collect()
}

#[test]
fn every_line_of_the_service_has_its_reason() {
    for unit in [SERVICE, SOCKET, AUTH_SOCKET, AUTH_SERVICE] {
        let mut explained = false;
        for line in unit.lines() {
            match line {
                "" => explained = false,
                line if line.starts_with('#') => explained = true,
                line if line.starts_with('[') => {}
                line => assert!(explained, "`{line}` has no reason above it"),
            }
        }
    }
}

#[test]
fn the_service_has_what_the_code_needs_and_no_more() {
    let unit = settings(SERVICE);
    assert_eq!(words(&unit, "Type"), ["notify"]);
    let mut capabilities = words(&unit, "CapabilityBoundingSet");
    capabilities.sort_unstable();
    // docs/architecture.md, "The roles": what the keeper does with each.
    assert_eq!(
        capabilities,
        [
            "CAP_CHOWN",
            "CAP_DAC_OVERRIDE",
            "CAP_FOWNER",
            "CAP_KILL",
            "CAP_LEASE",
            "CAP_NET_BIND_SERVICE",
            "CAP_SETGID",
            "CAP_SETUID"
        ]
    );
    let mut namespaces = words(&unit, "RestrictNamespaces");
    namespaces.sort_unstable();
    assert_eq!(namespaces, namespaces_of_the_yard());
    let mut families = words(&unit, "RestrictAddressFamilies");
    families.sort_unstable();
    assert_eq!(families, ["AF_INET", "AF_INET6", "AF_UNIX"]);
    assert_eq!(words(&unit, "NoNewPrivileges"), ["yes"]);
    assert_eq!(words(&unit, "ProtectSystem"), ["strict"]);
    assert_eq!(words(&unit, "LimitCORE"), ["0"]);
    // These would take away what the yard is made with. Those that keep setuid files from being made (DynamicUser implies
    // it) answer ENOSYS to openat2.
    for forbidden in ["PrivateUsers", "DynamicUser", "PrivateNetwork", "RestrictSUIDSGID"] {
        assert!(!unit.contains_key(forbidden), "{forbidden}");
    }
    let filter = words(&unit, "SystemCallFilter");
    for group in ["@system-service", "@mount", "seccomp", "landlock_create_ruleset", "landlock_restrict_self"] {
        assert!(filter.contains(&group), "{group} is filtered away");
    }
    assert!(!unit["WatchdogSec"].is_empty() && !unit["TimeoutStopSec"].is_empty());
}

/// As systemd calls those that `sys/yard.rs` unshares.
fn namespaces_of_the_yard() -> Vec<String> {
    let code = include_str!("../../src/sys/yard.rs");
    let kinds = code.split("CloneFlags::CLONE_NEW").skip(1);
    let names = kinds.map(|rest| rest.chars().take_while(char::is_ascii_uppercase).collect::<String>().to_lowercase());
    let mut names: Vec<String> = names.map(|name| if name == "ns" { "mnt".to_owned() } else { name }).collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[test]
fn a_daemon_with_the_units_capabilities_does_everything() {
    if !is_root() || !have("setpriv") {
        return;
    }
    let unit = settings(SERVICE);
    let capabilities: String = words(&unit, "CapabilityBoundingSet")
        .iter()
        .map(|name| format!(",+{}", name.trim_start_matches("CAP_").to_lowercase()))
        .collect();
    let site =
        Site::under(&["setpriv", "--no-new-privs", "--inh-caps=-all", &format!("--bounding-set=-all{capabilities}")]);
    let bytes = content("under the unit ", 200_000);
    site.partner().put(&site.file("a.dcm", &bytes), "/radiology/a.dcm");
    site.partner().put(&site.file("b.bin", &bytes), "/shared/b.bin");
    site.partner().sftp("mkdir /shared/d\nrename /shared/b.bin /shared/d/c.bin\nrm /shared/d/c.bin").ok();
    assert!(site.recipient("radiology").get("/inbox/partner/a.dcm") == bytes);
    assert_eq!(site.age()["expired"].as_array().unwrap().len(), 1);
    let status = std::fs::read_to_string(format!("/proc/{}/status", site.keeper())).unwrap();
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
}

#[test]
fn the_samples_agree_with_the_units() {
    let config = include_str!("../../config/sealdrop.toml");
    let unit = settings(SERVICE);
    assert_eq!(unit["StateDirectory"], ["sealdrop"]);
    assert!(config.contains("/var/lib/sealdrop"));
    assert!(SYSUSERS.lines().any(|line| line.starts_with("u sealdrop ")));
    assert!(TMPFILES.contains("/etc/sealdrop"));
    assert!(
        settings(SOCKET)["ListenStream"].iter().all(|address| config.contains(address.rsplit(':').next().unwrap()))
    );
}

/// The unit names /usr/bin/sealdrop: verified with a copy that names the program under test.
#[test]
fn systemd_finds_nothing_wrong() {
    if !have("systemd-analyze") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let service = SERVICE.replace("/usr/bin/sealdrop", crate::site::SEALDROP);
    std::fs::write(dir.path().join("sealdrop.service"), service).unwrap();
    std::fs::write(dir.path().join("sealdrop.socket"), SOCKET).unwrap();
    let mut verify = Command::new("systemd-analyze");
    verify
        .args(["verify", "--man=no"])
        .arg(dir.path().join("sealdrop.service"))
        .arg(dir.path().join("sealdrop.socket"));
    let ran = run(verify, b"");
    let about_us: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("sealdrop")).collect();
    assert!(ran.status.success() && about_us.is_empty(), "{}", ran.told());

    let mut security = Command::new("systemd-analyze");
    security
        .args(["security", "--offline=true", "--threshold=45", "--no-pager"])
        .arg(dir.path().join("sealdrop.service"));
    run(security, b"").ok();

    let mut sysusers = Command::new("systemd-sysusers");
    sysusers.arg("--dry-run").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/sysusers.d/sealdrop.conf"));
    if have("systemd-sysusers") {
        run(sysusers, b"").ok();
    }
}
