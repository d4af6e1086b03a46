//! Keys and what is derived from them. Every key is 32 uniform bytes that are wiped when dropped, compare in constant
//! time or not at all, and have no `Debug` or `Display`: they can be exposed on purpose, not printed by accident.

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::SealError;

/// `FileKey` and `JournalKey` differ in what they open, not in what they are.
macro_rules! keys {
    ($($(#[$doc:meta])* $name:ident),*) => {$(
        $(#[$doc])*
        #[derive(Clone, Zeroize, ZeroizeOnDrop)]
        pub struct $name([u8; 32]);

        impl $name {
            /// A fresh key from the kernel.
            pub fn generate() -> Result<Self, SealError> {
                Self::draw(&mut Kernel)
            }

            pub(super) fn draw(entropy: &mut dyn Entropy) -> Result<Self, SealError> {
                let mut key = Self([0; 32]);
                entropy.fill(&mut key.0)?;
                Ok(key)
            }

            pub fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// For the message or the file that must carry it; wipe the copy.
            pub fn expose(&self) -> &[u8; 32] {
                &self.0
            }
        }
    )*};
}

keys! {
    /// Opens one sealed file: its records and its trailer. Never used for a second file.
    FileKey,
    /// Opens the journals of uploads in progress.
    JournalKey
}

/// `X(key, label, context)` of the specification: HKDF-Expand with SHA-256 (RFC 5869) to 32 bytes. The keys given here
/// are uniform already, so there is nothing to extract.
pub(super) fn expand(key: &[u8; 32], label: &str, context: &[&[u8]]) -> Result<Zeroizing<[u8; 32]>, SealError> {
    let mut out = Zeroizing::new([0; 32]);
    let mut info: Vec<&[u8]> = vec![b"sealdrop/v1/", label.as_bytes(), &[0]];
    info.extend_from_slice(context);
    expand_into(key, &info, &mut out)?;
    Ok(out)
}

#[cfg(not(feature = "fips"))]
fn expand_into(key: &[u8; 32], info: &[&[u8]], out: &mut [u8; 32]) -> Result<(), SealError> {
    // Cannot fail: the key has the hash's length, and 32 bytes are one block of output.
    let hkdf = hkdf::Hkdf::<sha2::Sha256>::from_prk(key).map_err(|_| SealError::Limit("a key"))?;
    hkdf.expand_multi_info(info, &mut out[..]).map_err(|_| SealError::Limit("a key"))
}

#[cfg(feature = "fips")]
use super::module::expand_into;

/// Where random bytes come from. One implementation in the product; the vectors have their own, which repeats.
pub trait Entropy {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), SealError>;
}

/// getrandom(2) at every call: no generator state in this process that a fork could copy or a crash could rewind.
pub(super) struct Kernel;

impl Entropy for Kernel {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), SealError> {
        getrandom::fill(bytes).map_err(|_| SealError::Entropy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_contexts_give_unrelated_keys() {
        let key = [7; 32];
        let a = expand(&key, "gcm", &[b"x"]).unwrap();
        assert_ne!(*a, *expand(&key, "gcm", &[b"y"]).unwrap());
        assert_ne!(*a, *expand(&key, "trailer", &[b"x"]).unwrap());
        assert_eq!(*a, *expand(&key, "gcm", &[b"", b"x"]).unwrap());
    }

    /// Autoref: the inherent method is taken where the type has the trait, and `Shy`'s where it has not.
    macro_rules! assert_lacks {
        ($bound:path: $($key:ty),*) => {{
            struct Probe<T>(std::marker::PhantomData<T>);
            trait Shy {
                fn prints(&self) -> bool {
                    false
                }
            }
            impl<T> Shy for Probe<T> {}
            impl<T: $bound> Probe<T> {
                fn prints(&self) -> bool {
                    true
                }
            }
            assert!(Probe::<u8>(std::marker::PhantomData).prints(), "the probe works");
            $(assert!(!Probe::<$key>(std::marker::PhantomData).prints());)*
        }};
    }

    #[test]
    fn no_key_can_be_printed() {
        use crate::seal::{Identity, Journal, LockedSshIdentity, Passphrase, ShredKey, SshIdentity};
        assert_lacks!(std::fmt::Debug: FileKey, JournalKey, ShredKey, Identity, Journal);
        assert_lacks!(std::fmt::Display: FileKey, JournalKey, ShredKey, Identity, Journal);
        assert_lacks!(std::fmt::Debug: SshIdentity, LockedSshIdentity, Passphrase);
        assert_lacks!(std::fmt::Display: SshIdentity, LockedSshIdentity, Passphrase);
    }
}
