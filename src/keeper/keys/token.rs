//! The root key under a key in a PKCS#11 token: a small text file with the root key as the token encrypted it, AES-256-GCM
//! by a key that never leaves it (docs/keys.md, "root.token"). The token is asked once at each start and let go again; who
//! copies the keys' directory has nothing without the token and its PIN.

use std::path::Path;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use secrecy::SecretString;
use zeroize::{Zeroize, Zeroizing};

use super::KeyError;
use super::files::read_private;
use super::root::{Root, credential_path, read_credential};
use crate::config::root_key::{PinSource, Token};
use crate::names::{from_hex, hex};

const FIRST_LINE: &str = "sealdrop root key, wrapped by a token, v1\n";
const IV_LEN: usize = 12;
const TAG_BITS: u64 = 128;

pub(super) fn seal(root: &Root, token: &Token) -> Result<Vec<u8>, KeyError> {
    with_key(token, Absent::Make, |session, key| {
        let mut iv = [0; IV_LEN];
        getrandom::fill(&mut iv).map_err(KeyError::Random)?;
        let params = GcmParams::new(&mut iv, FIRST_LINE.as_bytes(), TAG_BITS.into()).map_err(cannot(token))?;
        let sealed = session.encrypt(&Mechanism::AesGcm(params), key, root.expose()).map_err(cannot(token))?;
        // A token may put its own in its place; whatever it used stands there now.
        Ok(format!("{FIRST_LINE}wrapped {}{}\n", hex(&iv), hex(&sealed)).into_bytes())
    })
}

pub(super) fn open(path: &Path, bytes: &[u8], token: &Token) -> Result<[u8; 32], KeyError> {
    let damaged = || KeyError::Unusable { path: path.to_owned(), why: "it is not as this program writes it".into() };
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let wrapped = text.strip_prefix(FIRST_LINE).and_then(|rest| rest.strip_prefix("wrapped ")).ok_or_else(damaged)?;
    let wrapped = from_hex::<60>(wrapped.trim_end()).map_err(|_| damaged())?;
    let (iv, sealed) = wrapped.split_first_chunk::<IV_LEN>().ok_or_else(damaged)?;
    with_key(token, Absent::Refuse, |session, key| {
        let mut iv = *iv;
        let params = GcmParams::new(&mut iv, FIRST_LINE.as_bytes(), TAG_BITS.into()).map_err(cannot(token))?;
        let mut opened = session.decrypt(&Mechanism::AesGcm(params), key, sealed).map_err(|e| match e {
            Error::Pkcs11(RvError::EncryptedDataInvalid | RvError::GeneralError | RvError::FunctionFailed, _) => {
                KeyError::Unwrap { path: path.to_owned() }
            }
            e => cannot(token)(e),
        })?;
        let secret = opened.as_slice().try_into().map_err(|_| damaged());
        opened.zeroize();
        secret
    })
}

/// What to do where the token has no key of that name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Absent {
    Refuse,
    /// An AES key of 256 bits that can not be read.
    Make,
}

/// Logs in, finds the key, does the work, and leaves the token.
fn with_key<T>(
    token: &Token,
    absent: Absent,
    work: impl FnOnce(&Session, ObjectHandle) -> Result<T, KeyError>,
) -> Result<T, KeyError> {
    let pin = pin(&token.pin)?;
    let library = Pkcs11::new(&token.module).map_err(cannot(token))?;
    match library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(e) => return Err(cannot(token)(e)),
    }
    let done = session(&library, token, absent, &pin).and_then(|session| {
        let key = key(&session, token, absent)?;
        let done = work(&session, key);
        let _ = session.logout();
        done
    });
    // Nothing of the library goes on running in a process that holds keys.
    let _ = library.finalize();
    done
}

fn session(library: &Pkcs11, token: &Token, absent: Absent, pin: &SecretString) -> Result<Session, KeyError> {
    let slot = slot(library, token)?;
    let session = match absent {
        Absent::Refuse => library.open_ro_session(slot),
        Absent::Make => library.open_rw_session(slot),
    };
    let session = session.map_err(cannot(token))?;
    match session.login(UserType::User, Some(pin)) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
        Err(Error::Pkcs11(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange, _)) => {
            Err(KeyError::Token { what: "the token does not take this PIN".into() })
        }
        Err(Error::Pkcs11(RvError::PinLocked, _)) => {
            Err(KeyError::Token { what: "the token is locked after too many wrong PINs".into() })
        }
        Err(e) => Err(cannot(token)(e)),
    }
}

/// The one token that is meant.
fn slot(library: &Pkcs11, token: &Token) -> Result<Slot, KeyError> {
    let mut found = Vec::new();
    for slot in library.get_slots_with_initialized_token().map_err(cannot(token))? {
        let about = library.get_token_info(slot).map_err(cannot(token))?;
        let fits = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is.trim_end());
        let meant = fits(&token.label, about.label())
            && fits(&token.serial, about.serial_number())
            && fits(&token.manufacturer, about.manufacturer_id())
            && fits(&token.model, about.model())
            && token.slot.is_none_or(|number| number == slot.id());
        if meant {
            found.push(slot);
        }
    }
    match found.as_slice() {
        [slot] => Ok(*slot),
        [] => Err(KeyError::Token { what: "no token is there that `root_key` names".into() }),
        many => Err(KeyError::Token { what: format!("{} tokens fit what `root_key` names", many.len()) }),
    }
}

fn key(session: &Session, token: &Token, absent: Absent) -> Result<ObjectHandle, KeyError> {
    let mut named = vec![Attribute::Class(ObjectClass::SECRET_KEY), Attribute::KeyType(KeyType::AES)];
    named.extend(token.object.as_ref().map(|label| Attribute::Label(label.as_bytes().to_vec())));
    named.extend(token.id.clone().map(Attribute::Id));
    let found = session.find_objects(&named).map_err(cannot(token))?;
    match (found.as_slice(), absent) {
        ([key], _) => Ok(*key),
        ([], Absent::Refuse) => Err(KeyError::Token { what: "the token has no AES key that `root_key` names".into() }),
        ([], Absent::Make) => {
            named.extend([
                Attribute::ValueLen(32.into()),
                Attribute::Token(true),
                Attribute::Private(true),
                Attribute::Sensitive(true),
                Attribute::Extractable(false),
                Attribute::Encrypt(true),
                Attribute::Decrypt(true),
            ]);
            // Both are said by the mechanism, and some tokens refuse to hear them twice.
            named.retain(|attribute| !matches!(attribute, Attribute::Class(_) | Attribute::KeyType(_)));
            session.generate_key(&Mechanism::AesKeyGen, &named).map_err(cannot(token))
        }
        (many, _) => Err(KeyError::Token { what: format!("the token has {} keys that `root_key` names", many.len()) }),
    }
}

fn pin(source: &PinSource) -> Result<SecretString, KeyError> {
    let (path, bytes) = match source {
        PinSource::File(path) => (path.clone(), read_private(path)?),
        PinSource::Credential(name) => {
            let path = credential_path(name)?;
            let bytes = read_credential(&path)?;
            (path, bytes)
        }
    };
    let text = std::str::from_utf8(&bytes).map(str::trim_end).unwrap_or_default();
    if text.is_empty() {
        return Err(KeyError::Unusable { path, why: "it holds no PIN".into() });
    }
    let copy = Zeroizing::new(text.to_owned());
    Ok(SecretString::from(copy.as_str()))
}

fn cannot(token: &Token) -> impl Fn(Error) -> KeyError {
    let module = token.module.clone();
    move |e| KeyError::Token { what: format!("{}: {e}", module.display()) }
}
