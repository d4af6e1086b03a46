//! What a folder's policy takes away of what its kind permits: operations, and names that look like patient data. What is refused
//! for its name is nowhere on the disk by that name, in no log and in no event.

use std::fs;

use crate::site::{Site, contains, content};

/// A site whose partner's folder `/radiology` has these lines.
fn site_with(lines: &str) -> Site {
    let mut site = Site::prepared();
    let path = site.place().policy("partner");
    let policy = fs::read_to_string(&path).unwrap();
    let to = "to = [\"radiology\"]";
    assert!(policy.contains(to), "{policy}");
    fs::write(&path, policy.replacen(to, &format!("{to}\n{lines}"), 1)).unwrap();
    site.start().expect("the daemon starts");
    site
}

#[test]
fn what_a_folder_denies_is_refused_and_the_rest_goes_on() {
    let site = site_with("deny = [\"list\", \"rename\", \"remove\", \"mkdir\"]");
    let local = site.file("a.dcm", &content("denied ", 5_000));
    site.partner().put(&local, "/radiology/a.dcm");
    for batch in
        ["ls /radiology", "rename /radiology/a.dcm /radiology/b.dcm", "rm /radiology/a.dcm", "mkdir /radiology/sub"]
    {
        site.partner().sftp(batch).fails();
    }
    // An upload takes its final name by a rename, which is no other's.
    site.partner()
        .sftp(format!("put {} /radiology/c.dcm.part\nrename /radiology/c.dcm.part /radiology/c.dcm", local.display()))
        .ok();
    assert_eq!(site.recipient("radiology").delivered(), ["a.dcm", "c.dcm"]);
    site.partner().put(&local, "/lab/a.dcm");
    site.partner().sftp("ls /lab\nrm /lab/a.dcm").ok();
    let reasons: Vec<String> = site.refusals("/radiology/a.dcm").iter().map(ToString::to_string).collect();
    assert!(reasons.iter().any(|reason| reason.contains("`deny` has")), "{reasons:?}");
}

#[test]
fn a_name_that_looks_like_patient_data_is_refused_and_written_down_nowhere() {
    let site = site_with("refuse_phi = [\"mrn\", \"date\", \"person-name\"]");
    let local = site.file("a.dcm", &content("named ", 5_000));
    site.partner().put(&local, "/radiology/1.2.840.113619.dcm");
    for name in ["DOE^JOHN.dcm", "MRN0012345.dcm", "19610423.dcm", "DOE^JOHN.dcm.part", ".in.MRN0012345"] {
        site.partner().sftp(format!("put {} /radiology/{name}", local.display())).fails();
    }
    site.partner().sftp("mkdir /radiology/DOE^JOHN").fails();
    site.partner().sftp("rename /radiology/1.2.840.113619.dcm /radiology/DOE^JOHN.dcm").fails();
    site.partner().sftp("rm /radiology/DOE^JOHN.dcm").fails();
    assert_eq!(site.recipient("radiology").delivered(), ["1.2.840.113619.dcm"]);
    let events = serde_json::to_string(&site.events()).unwrap();
    assert!(events.contains("looks like patient data (`refuse_phi`: person-name)"), "{events}");
    for told in [events, site.log()] {
        for name in ["DOE", "MRN0012345", "19610423"] {
            assert!(!contains(told.as_bytes(), name.as_bytes()), "{name} in {told}");
        }
    }
    for name in ["DOE^JOHN", "MRN0012345"] {
        assert!(site.state_contains(name.as_bytes()).is_empty(), "{name}");
    }
}
