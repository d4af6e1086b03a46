//! A text that is read as a receipt, or as a proof, is the one text that it has; a signature and a manifest, which the keeper
//! reads, are read or refused, and so is a list of signers.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sealdrop::ledger::origin::OriginSignature;
use sealdrop::ledger::proof::InclusionProof;
use sealdrop::ledger::signers::AllowedSigners;
use sealdrop::ledger::{Receipt, manifest};
use sealdrop::vpath::VirtualPath;

fuzz_target!(|text: &str| {
    if let Ok(receipt) = Receipt::parse(text) {
        assert_eq!(receipt.text(), text);
    }
    let _ = AllowedSigners::parse(text);
    if let Ok(proof) = InclusionProof::parse(text) {
        assert_eq!(proof.text(), text);
    }
    let _ = OriginSignature::parse(text.as_bytes());
    if let Ok(path) = VirtualPath::parse(b"/folder/SHA256SUMS") {
        let _ = manifest::parse(&path, text.as_bytes());
    }
});
