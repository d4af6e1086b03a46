//! Proofs as files: what is promised of them in a listing, and what they prove.

use super::*;
use crate::ledger::checkpoint::note_is_signed_by;
use crate::ledger::merkle::leaf_hash;
use crate::ledger::proof::InclusionProof;

#[test]
fn each_receipt_has_a_proof_of_the_size_that_was_promised_and_it_stays_the_same() {
    let site = Site::new();
    let ledger = site.open();
    let mut proofs = Vec::new();
    for n in 1..=20 {
        let mut record = drop_number(n);
        record.path = path(&format!("/radiology/{}\u{1}.dcm", "n".repeat(usize::from(n))));
        ledger.commit(upload(record)).unwrap();
        for _ in 0..n % 3 {
            ledger.commit(event(Kind::LoggedIn)).unwrap();
        }
        let receipt = ledger.receipt(&ReceiptId([n; 16])).unwrap().unwrap();
        proofs.push((receipt.clone(), ledger.receipt_proof(&receipt).unwrap()));
    }
    for (receipt, text) in proofs {
        assert_eq!(ledger.receipt_proof(&receipt).unwrap(), text, "later events change nothing");
        assert_eq!(text.len(), receipt.proof_len as usize);
        let proof = InclusionProof::parse(&text).unwrap();
        let json = proof.json.clone().unwrap();
        let (note, claim) = proof.check(leaf_hash(json.as_bytes())).unwrap();
        assert_eq!((proof.event, claim.head.size), (receipt.event, receipt.log_size));
        assert!(proof.check(leaf_hash(json.replace("upload", "Upload").as_bytes())).is_err());
        assert!(note_is_signed_by(&note, signer().public_key()));
        let digest = Digest(Sha256::digest(&receipt.text).into());
        assert!(json.contains(&format!("\"receipt_sha256\":\"{digest}\"")), "{json}");
    }
    assert_eq!(ledger.proof(0, ledger.head().size + 1).unwrap(), None);
    assert_eq!(ledger.proof(5, 5).unwrap(), None);
}
