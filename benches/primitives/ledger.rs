//! What a CLOSE waits for in the ledger beside the disk: the event and its place in the log's tree, the receipt and its two
//! signatures.

use std::hint::black_box;

use russh::keys::PrivateKey;
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use sealdrop::clock::Time;
use sealdrop::ledger::merkle::{Frontier, leaf_hash};
use sealdrop::ledger::receipt::RECEIPT_NAMESPACE;
use sealdrop::ledger::{Event, Kind, Name, Receipt, ReceiptFacts, ReceiptRecipient, Signer};
use sealdrop::names::{Digest, DropId, ReceiptId, SessionId};
use sealdrop::vpath::VirtualPath;

use crate::Work;

const NOW: Time = Time(1_795_308_143_000);

pub fn works() -> Vec<Work> {
    vec![event(), push(), text(), sign(), sign_content()]
}

fn path() -> VirtualPath {
    VirtualPath::parse(b"/radiology/2026/a.dcm").unwrap()
}

/// Of a delivery, the longest that comes often: its canonical form, and the hash of that.
fn event() -> Work {
    let event = Event {
        user: Some("acme-imaging".parse().unwrap()),
        key: Some("SHA256:uNiVztksCsDhcc0u9e8BgrJXVGDiXxTnkq4dYsyaBzs".into()),
        address: Some([203, 0, 113, 9].into()),
        session: Some(SessionId(0x1234_5678_9abc_def0)),
        path: Some(path()),
        drop: Some(DropId([7; 16])),
        receipt: Some(ReceiptId([8; 16])),
        receipt_sha256: Some(Digest([9; 32])),
        bytes: Some(512 << 10),
        sha256: Some(Digest([10; 32])),
        ms: Some(12),
        policy: Some(Digest([11; 32])),
        ..Event::new(NOW, Kind::UploadCommitted)
    };
    Work::new("ledger/event", move || {
        black_box(leaf_hash(black_box(&event).canonical(1_000_000, &[5; 16]).as_bytes()));
    })
}

/// The event after 1,048,575 others, which completes twenty nodes: the most of any in a million.
fn push() -> Work {
    let before = Frontier::of((1 << 20) - 1, vec![[1; 32]; 20]).unwrap();
    Work::new("ledger/push-20-nodes", move || {
        let mut frontier = before.clone();
        assert_eq!(frontier.push(black_box([2; 32])).len(), 20);
        black_box(frontier);
    })
}

fn receipt() -> Receipt {
    let facts = ReceiptFacts {
        id: ReceiptId([8; 16]),
        drop: DropId([7; 16]),
        sender: "acme-imaging".parse().unwrap(),
        sender_key: Some("SHA256:uNiVztksCsDhcc0u9e8BgrJXVGDiXxTnkq4dYsyaBzs".into()),
        recipients: vec![ReceiptRecipient { user: "st-mary-radiology".parse().unwrap(), key: Some("a1".repeat(32)) }],
        escrow: None,
        end_to_end: false,
        folder: VirtualPath::parse(b"/radiology").unwrap(),
        path: Name::Clear(path()),
        earlier: None,
        origin: None,
        size: 512 << 10,
        sha256: Digest([10; 32]),
        received: NOW,
        expires: Some(Time(NOW.0 + 72 * 3_600_000)),
        pickups: None,
        policy: Digest([11; 32]),
    };
    Receipt::new("drop.example", 1_000_000, facts)
}

fn signer() -> Signer {
    let key = PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[4; 32])), "").unwrap();
    Signer::new("drop.example", key).unwrap()
}

fn text() -> Work {
    let receipt = receipt();
    Work::new("ledger/receipt-text", move || {
        black_box(black_box(&receipt).text());
    })
}

fn sign() -> Work {
    let (signer, text) = (signer(), receipt().text());
    Work::new("ledger/sign-receipt", move || {
        black_box(signer.sign(RECEIPT_NAMESPACE, black_box(text.as_bytes())).unwrap());
    })
}

fn sign_content() -> Work {
    let (signer, sha256) = (signer(), Digest([10; 32]));
    Work::new("ledger/sign-content", move || {
        black_box(signer.sign_content(black_box(&sha256)).unwrap());
    })
}
