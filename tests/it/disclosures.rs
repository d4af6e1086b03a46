//! Whoever is sent what is in a drop has a receipt for it, its sender sees who has it, and the log has both.

use crate::site::{Site, content};

#[test]
fn a_download_gives_its_recipient_a_receipt_and_its_sender_sees_it() {
    let site = Site::new();
    let (partner, radiology) = (site.partner(), site.recipient("radiology"));
    let bytes = content("disclosed ", 300_000);
    partner.put(&site.file("a.dcm", &bytes), "/radiology/a.dcm");
    radiology.sftp("ls /receipts/inbox").fails();
    assert_eq!(radiology.get("/inbox/partner/a.dcm"), bytes);
    let event = {
        site.wait_for_event("download-ended", 1);
        site.events_of("download-ended", "").pop().unwrap()
    };
    let text = String::from_utf8(radiology.get("/receipts/inbox/partner/a.dcm.disclosure")).unwrap();
    for line in
        ["sealdrop-disclosure/v1", "sender partner", "disclosed whole", "bytes 300000", "path /inbox/partner/a.dcm"]
    {
        assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
    }
    assert!(text.contains(&format!("\nevent {}\n", event["n"])), "{text}");
    assert!(text.contains("\nrecipient radiology SHA256:"), "{text}");
    assert_eq!(event["receipt_sha256"], sealdrop::names::hex(&<sha2::Sha256 as sha2::Digest>::digest(&text)));
    let signature = site.file("sig", &radiology.get("/receipts/inbox/partner/a.dcm.disclosure.sig"));
    partner.verify("receipt@sealdrop", text.as_bytes(), &signature).ok();
    // It is the recipient's, and nobody else's.
    partner.sftp("get /receipts/inbox/partner/a.dcm.disclosure x").fails();
    site.recipient("lab").sftp("get /receipts/inbox/partner/a.dcm.disclosure x").fails();
    assert!(partner.ssh(&["-T"], &["status /radiology/a.dcm"]).ok().contains("radiology: picked up 2"));
    let told = site.ask(&["status", "/radiology/a.dcm"]);
    assert_eq!((&told[0]["user"], &told[0]["to"][0]["picked_up"]), (&"partner".into(), &1.into()));
    let missing = site.sealdrop(&["status", "/radiology/none.dcm"]).fails_with(1);
    assert!(missing.contains("hint: "), "{missing}");
}

#[test]
fn what_was_read_in_part_is_disclosed_in_part() {
    let site = Site::new();
    let (partner, radiology) = (site.partner(), site.recipient("radiology"));
    partner.put(&site.file("a.dcm", &content("disclosed ", 300_000)), "/radiology/a.dcm");
    if !crate::site::have_python("paramiko") {
        return;
    }
    radiology.paramiko("f = sftp.open('/inbox/partner/a.dcm'); f.read(1000); f.close()").ok();
    site.wait_for_event("download-ended", 1);
    let text = String::from_utf8(radiology.get("/receipts/inbox/partner/a.dcm.disclosure")).unwrap();
    assert!(text.contains("\ndisclosed part\nbytes "), "{text}");
    let status = partner.ssh(&["-T"], &["status /radiology/a.dcm"]).ok();
    assert!(status.contains("radiology: not picked up, read in part 2"), "{status}");
    // Opened and not read is no disclosure.
    radiology.paramiko("f = sftp.open('/inbox/partner/a.dcm'); f.close()").ok();
    site.wait_for_event("download-ended", 2);
    let event = site.events_of("download-ended", "").pop().unwrap();
    assert!(event["receipt_sha256"].is_null(), "{event}");
}
