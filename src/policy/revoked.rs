//! What is revoked: a key revocation list as `ssh-keygen -k` writes it (OpenSSH's PROTOCOL.krl), or a list of public
//! keys, one a line. It takes away plain keys, certified keys, authorities, and certificates by serial number or by
//! the authority's name for them. A list of a kind we do not know whole is no list: half of it would let the other half in.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::policy::certificate::Holding;
use crate::policy::fields::Fields;

const MAGIC: &[u8; 8] = b"SSHKRL\n\0";
const VERSION: u32 = 1;

/// Empty: nothing is revoked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revoked {
    /// In SSH wire form.
    keys: BTreeSet<Vec<u8>>,
    sha1: BTreeSet<Vec<u8>>,
    sha256: BTreeSet<Vec<u8>>,
    certificates: Vec<Certificates>,
}

/// Of one authority; of every one if `authority` is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Certificates {
    authority: Vec<u8>,
    serials: Vec<RangeInclusive<u64>>,
    /// A first number, and a bit for it and each one after it, the least of the last byte first.
    bitmaps: Vec<(u64, Vec<u8>)>,
    ids: BTreeSet<Vec<u8>>,
}

/// Why a list cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RevokedError {
    #[error("the key revocation list is of another version than 1")]
    Version,
    #[error("the key revocation list is broken or cut off")]
    Broken,
    #[error("the key revocation list has a section of type {0}, which this server does not know")]
    Section(u8),
    #[error("line {0} is not a public key")]
    Line(usize),
}

impl Revoked {
    /// Either form. `key` reads one line of a list of keys into SSH wire form.
    pub fn parse(bytes: &[u8], key: impl Fn(&str) -> Option<Vec<u8>>) -> Result<Self, RevokedError> {
        match bytes.strip_prefix(MAGIC) {
            Some(rest) => Self::krl(Fields(rest)),
            None => Self::lines(bytes, key),
        }
    }

    fn lines(bytes: &[u8], key: impl Fn(&str) -> Option<Vec<u8>>) -> Result<Self, RevokedError> {
        let mut revoked = Self::default();
        for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let line = std::str::from_utf8(line).map_err(|_| RevokedError::Line(number + 1))?.trim();
            if !line.is_empty() && !line.starts_with('#') {
                revoked.keys.insert(key(line).ok_or(RevokedError::Line(number + 1))?);
            }
        }
        Ok(revoked)
    }

    fn krl(mut fields: Fields<'_>) -> Result<Self, RevokedError> {
        if fields.u32() != Some(VERSION) {
            return Err(RevokedError::Version);
        }
        // Its number, its date, flags, something reserved and a comment.
        let head = (fields.u64(), fields.u64(), fields.u64(), fields.string(), fields.string());
        let (Some(_), Some(_), Some(_), Some(_), Some(_)) = head else { return Err(RevokedError::Broken) };
        let mut revoked = Self::default();
        while !fields.is_empty() {
            let kind = fields.u8().ok_or(RevokedError::Broken)?;
            let mut section = Fields(fields.string().ok_or(RevokedError::Broken)?);
            match kind {
                1 => revoked.certificates.push(Certificates::read(section)?),
                2 => each(section, &mut revoked.keys)?,
                3 => each(section, &mut revoked.sha1)?,
                5 => each(section, &mut revoked.sha256)?,
                255 => extension(&mut section)?,
                other => return Err(RevokedError::Section(other)),
            }
        }
        Ok(revoked)
    }

    /// Whether the key, or the certificate or the authority that vouches for it, is revoked.
    pub fn covers(&self, holding: &Holding) -> bool {
        self.has_key(&holding.key)
            || holding.certified.as_ref().is_some_and(|certified| {
                self.has_key(&certified.authority)
                    || self.certificates.iter().any(|of| {
                        (of.authority.is_empty() || of.authority == certified.authority)
                            && (of.has_serial(certified.serial) || of.ids.contains(certified.id.as_bytes()))
                    })
            })
    }

    /// In SSH wire form.
    pub fn has_key(&self, key: &[u8]) -> bool {
        self.keys.contains(key)
            || !self.sha256.is_empty() && self.sha256.contains(Sha256::digest(key).as_slice())
            || !self.sha1.is_empty() && self.sha1.contains(Sha1::digest(key).as_slice())
    }
}

impl Certificates {
    fn read(mut fields: Fields<'_>) -> Result<Self, RevokedError> {
        let mut read = || Some((fields.string()?, fields.string()?));
        let (authority, _reserved) = read().ok_or(RevokedError::Broken)?;
        let mut certificates = Self { authority: authority.to_vec(), ..Self::default() };
        while !fields.is_empty() {
            let kind = fields.u8().ok_or(RevokedError::Broken)?;
            let mut section = Fields(fields.string().ok_or(RevokedError::Broken)?);
            match kind {
                0x20 => {
                    while !section.is_empty() {
                        let serial = section.u64().ok_or(RevokedError::Broken)?;
                        certificates.serials.push(serial..=serial);
                    }
                }
                0x21 => {
                    let mut read = || Some(section.u64()?..=section.u64()?);
                    let range = read().filter(|range| !range.is_empty()).ok_or(RevokedError::Broken)?;
                    certificates.serials.push(range);
                }
                0x22 => {
                    let mut read = || Some((section.u64()?, section.string()?.to_vec()));
                    certificates.bitmaps.push(read().ok_or(RevokedError::Broken)?);
                }
                0x23 => each(section, &mut certificates.ids)?,
                0x39 => extension(&mut section)?,
                other => return Err(RevokedError::Section(other)),
            }
        }
        Ok(certificates)
    }

    /// Zero is what an authority writes that does not number its certificates; it revokes none by number.
    fn has_serial(&self, serial: u64) -> bool {
        serial != 0
            && (self.serials.iter().any(|range| range.contains(&serial))
                || self.bitmaps.iter().any(|(first, bits)| {
                    let Some(bit) = serial.checked_sub(*first) else { return false };
                    let Ok(from_end) = usize::try_from(bit / 8) else { return false };
                    bits.iter().rev().nth(from_end).is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
                }))
    }
}

fn each(mut section: Fields<'_>, into: &mut BTreeSet<Vec<u8>>) -> Result<(), RevokedError> {
    while !section.is_empty() {
        into.insert(section.string().ok_or(RevokedError::Broken)?.to_vec());
    }
    Ok(())
}

/// One that is not critical may be passed over.
fn extension(section: &mut Fields<'_>) -> Result<(), RevokedError> {
    let mut read = || Some((section.string()?, section.u8()?, section.string()?));
    match read().ok_or(RevokedError::Broken)? {
        (_, 0, _) => Ok(()),
        _ => Err(RevokedError::Section(255)),
    }
}
