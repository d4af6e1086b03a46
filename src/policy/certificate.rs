//! An OpenSSH user certificate (PROTOCOL.certkeys): read by hand, since the bytes are a stranger's, and judged whole.
//! Whoever passes holds a key that one of the user's authorities has certified, for one of the user's principals, now,
//! from this address; and nothing about it is revoked. What we do not know how to honour, we refuse.
//!
//! The signature of the authority is verified here, whatever the session says of it; that the client holds the certified
//! key is the session's word, as for any key.

use std::net::IpAddr;

use ipnet::IpNet;
use russh::keys::signature::Verifier;
use russh::keys::ssh_key::{self, Algorithm, Fingerprint, Signature};
use sha2::{Digest as _, Sha256};

use crate::clock::Time;
use crate::policy::fields::Fields;
use crate::policy::revoked::Revoked;
use crate::policy::user::PublicKey;

/// OpenSSH's own limit, and more than any has.
const PRINCIPALS_MAX: usize = 256;
const OPTIONS_MAX: usize = 64;

/// As for plain keys (`config::sshkey`).
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=16384;

/// `SSH_CERT_TYPE_USER`.
const USER: u32 = 1;

/// Each type of certificate, the type of the key it certifies, and of how many fields such a key is made.
const TYPES: [(&str, &str, usize); 7] = [
    ("ssh-ed25519-cert-v01@openssh.com", "ssh-ed25519", 1),
    ("ecdsa-sha2-nistp256-cert-v01@openssh.com", "ecdsa-sha2-nistp256", 2),
    ("ecdsa-sha2-nistp384-cert-v01@openssh.com", "ecdsa-sha2-nistp384", 2),
    ("ecdsa-sha2-nistp521-cert-v01@openssh.com", "ecdsa-sha2-nistp521", 2),
    ("ssh-rsa-cert-v01@openssh.com", "ssh-rsa", 2),
    ("sk-ssh-ed25519-cert-v01@openssh.com", "sk-ssh-ed25519@openssh.com", 2),
    ("sk-ecdsa-sha2-nistp256-cert-v01@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com", 3),
];

/// The one critical option we honour. `force-command` and `verify-required` mean things we cannot do.
const SOURCE_ADDRESS: &[u8] = b"source-address";

/// A certificate as it was sent; nothing in it is believed yet.
pub struct Certificate<'a> {
    /// The certified key, in SSH wire form.
    key: Vec<u8>,
    rsa_bits: Option<usize>,
    serial: u64,
    kind: u32,
    id: &'a str,
    principals: Vec<&'a [u8]>,
    valid_after: u64,
    valid_before: u64,
    options: Vec<(&'a [u8], &'a [u8])>,
    authority: &'a [u8],
    /// All before the signature, which is over this.
    signed: &'a [u8],
    signature: &'a [u8],
}

/// What a client has proved to hold, for the audit log and to be asked about again when the policy changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// SSH wire form.
    pub key: Vec<u8>,
    /// `SHA256:…`
    pub fingerprint: String,
    /// `None`: the key itself stands in the policy.
    pub certified: Option<Certified>,
}

/// What a certificate says that passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    /// SSH wire form.
    pub authority: Vec<u8>,
    pub authority_fingerprint: String,
    /// The authority's words for whom it certified.
    pub id: String,
    pub serial: u64,
    pub principals: Vec<String>,
}

/// Why a certificate does not do. For the log alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    #[error("the certificate cannot be read")]
    Malformed,
    #[error("the certificate is a host's, not a user's")]
    Host,
    #[error("the user does not log in with certificates")]
    NotTaken,
    #[error("the certificate is signed by no authority of the user's")]
    Authority,
    #[error("the authority's signature of the certificate does not hold")]
    Signature,
    #[error("the certificate is not valid yet")]
    NotYet,
    #[error("the certificate has expired")]
    Expired,
    #[error("the certificate is for none of the user's principals")]
    Principal,
    #[error("the certificate has a critical option that this server does not honour")]
    Option,
    #[error("the certificate may not be used from this address")]
    Address,
    #[error("the certificate's key is of a kind or length that is not taken")]
    Key,
    #[error("the certificate, its key or its authority is revoked")]
    Revoked,
}

use CertificateFault as Fault;

impl<'a> Certificate<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Fault> {
        Self::read(bytes).ok_or(Fault::Malformed)
    }

    fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let kind = fields.text()?;
        let (_, plain, parts) = TYPES.iter().find(|(certificate, ..)| *certificate == kind)?;
        let _nonce = fields.string()?;
        let mut key = Vec::new();
        let mut put = |field: &[u8]| {
            // Within a message of at most 64 KiB.
            key.extend_from_slice(&(field.len() as u32).to_be_bytes());
            key.extend_from_slice(field);
        };
        put(plain.as_bytes());
        let mut last: &[u8] = &[];
        for _ in 0..*parts {
            last = fields.string()?;
            put(last);
        }
        let rsa_bits = (*plain == "ssh-rsa").then(|| bits(last));
        let (serial, kind) = (fields.u64()?, fields.u32()?);
        let (id, principals) = (fields.text()?, fields.strings(PRINCIPALS_MAX)?);
        let (valid_after, valid_before) = (fields.u64()?, fields.u64()?);
        let options = options(fields.string()?)?;
        let _extensions = self::options(fields.string()?)?;
        let _reserved = fields.string()?;
        let authority = fields.string()?;
        let signed = bytes.get(..bytes.len() - fields.0.len())?;
        let signature = fields.string()?;
        fields.is_empty().then_some(Self {
            key,
            rsa_bits,
            serial,
            kind,
            id,
            principals,
            valid_after,
            valid_before,
            options,
            authority,
            signed,
            signature,
        })
    }

    /// Whether one of `authorities` has signed this. The work is the same for every user, so it tells nothing of one.
    pub fn verify<'k>(&self, mut authorities: impl Iterator<Item = &'k PublicKey>) -> Result<(), Fault> {
        let authority = authorities.find(|known| known.blob == self.authority).ok_or(Fault::Authority)?;
        let key = ssh_key::PublicKey::from_bytes(&authority.blob).map_err(|_| Fault::Authority)?;
        let signature = Signature::try_from(self.signature).map_err(|_| Fault::Signature)?;
        if matches!(signature.algorithm(), Algorithm::Rsa { hash: None } | Algorithm::Dsa) {
            // SHA-1 can be made to collide: two certificates, one signature.
            return Err(Fault::Signature);
        }
        Verifier::verify(key.key_data(), self.signed, &signature).map_err(|_| Fault::Signature)
    }

    /// Everything else. `authorities` and `principals` are the user's.
    pub fn judge(
        &self,
        authorities: &[PublicKey],
        principals: &[String],
        revoked: &Revoked,
        address: IpAddr,
        now: Time,
    ) -> Result<Holding, Fault> {
        let seconds = now.unix_seconds();
        if authorities.is_empty() {
            return Err(Fault::NotTaken);
        }
        if !authorities.iter().any(|known| known.blob == self.authority) {
            return Err(Fault::Authority);
        }
        if self.kind != USER {
            return Err(Fault::Host);
        }
        if seconds < self.valid_after {
            return Err(Fault::NotYet);
        }
        if seconds >= self.valid_before {
            return Err(Fault::Expired);
        }
        // None at all would be every principal: a certificate that was meant for something else.
        if !self.principals.iter().any(|has| principals.iter().any(|wanted| wanted.as_bytes() == *has)) {
            return Err(Fault::Principal);
        }
        if self.rsa_bits.is_some_and(|bits| !RSA_BITS.contains(&bits)) {
            return Err(Fault::Key);
        }
        for (name, data) in &self.options {
            match *name {
                SOURCE_ADDRESS if within(data, address).ok_or(Fault::Option)? => {}
                SOURCE_ADDRESS => return Err(Fault::Address),
                _ => return Err(Fault::Option),
            }
        }
        let holding = self.holding();
        if revoked.covers(&holding) {
            return Err(Fault::Revoked);
        }
        Ok(holding)
    }

    pub fn holding(&self) -> Holding {
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Holding {
            fingerprint: fingerprint(&self.key),
            key: self.key.clone(),
            certified: Some(Certified {
                authority: self.authority.to_vec(),
                authority_fingerprint: fingerprint(self.authority),
                id: self.id.to_owned(),
                serial: self.serial,
                principals: self.principals.iter().map(|principal| lossy(principal)).collect(),
            }),
        }
    }
}

impl Holding {
    /// A key that stands in the policy itself.
    pub fn plain(key: &PublicKey) -> Self {
        Self { key: key.blob.clone(), fingerprint: key.fingerprint.clone(), certified: None }
    }
}

impl Certified {
    /// For the audit log: which certificate it was, in words of bounded length.
    pub fn words(&self) -> String {
        let id: String = crate::names::escaped(self.id.as_bytes()).chars().take(200).collect();
        format!("certificate \"{id}\" serial {} of authority {}", self.serial, self.authority_fingerprint)
    }
}

/// `SHA256:…` of a key in SSH wire form, as ssh-keygen prints it.
pub fn fingerprint(blob: &[u8]) -> String {
    Fingerprint::Sha256(Sha256::digest(blob).into()).to_string()
}

/// Names and data of options, each name once and in order (PROTOCOL.certkeys).
fn options(list: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut fields = Fields(list);
    let mut options: Vec<(&[u8], &[u8])> = Vec::new();
    while !fields.is_empty() {
        let option = (fields.string()?, fields.string()?);
        if options.len() == OPTIONS_MAX || options.last().is_some_and(|(before, _)| *before >= option.0) {
            return None;
        }
        options.push(option);
    }
    Some(options)
}

/// Whether the address is in a comma-separated list of networks; `None` if it is no such list.
fn within(data: &[u8], address: IpAddr) -> Option<bool> {
    let mut data = Fields(data);
    let list = data.text().filter(|_| data.is_empty())?;
    let address = address.to_canonical();
    let mut found = false;
    for part in list.split(',') {
        let net = part.parse::<IpNet>().ok().or_else(|| part.parse::<IpAddr>().ok().map(IpNet::from))?;
        found |= net.contains(&address);
    }
    Some(found)
}

/// Of a number as SSH writes it.
fn bits(number: &[u8]) -> usize {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let first = number.get(zeros).map_or(0, |byte| byte.leading_zeros() as usize);
    ((number.len() - zeros) * 8).saturating_sub(first)
}

#[cfg(test)]
mod tests;
