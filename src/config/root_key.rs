//! `root_key`: where the key that wraps all others comes from. A text is read once, here; what exists afterwards names a
//! file, a credential, a passphrase or a key in a PKCS#11 token, and never holds a secret itself.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where the root key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootKey {
    /// A file of mode 0600 that holds it.
    File(PathBuf),
    /// A file in the service manager's directory of credentials.
    Credential(String),
    /// Wrapped in the keys' directory under a passphrase that is asked for at start.
    Passphrase,
    /// Wrapped in the keys' directory under a key that never leaves its token.
    Token(Box<Token>),
}

/// A key in a PKCS#11 token, as an RFC 7512 URI names it. What is `None` is not compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The URI itself, which holds no PIN.
    pub uri: String,
    pub module: PathBuf,
    pub label: Option<String>,
    pub serial: Option<String>,
    pub manufacturer: Option<String>,
    pub model: Option<String>,
    pub slot: Option<u64>,
    /// The key's label and id, of which there is at least one.
    pub object: Option<String>,
    pub id: Option<Vec<u8>>,
    pub pin: PinSource,
}

/// Where the token's PIN is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PinSource {
    File(PathBuf),
    Credential(String),
}

/// Why a text names no root key, and what to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootKeyError {
    pub message: &'static str,
    pub hint: &'static str,
}

const FORMS: &str = "\"file:/etc/sealdrop/root\", \"credential:NAME\", \"passphrase\" or \"pkcs11:…\" (RFC 7512)";

impl RootKey {
    /// Relative files are taken from `base`.
    pub fn parse(text: &str, base: &Path) -> Result<Self, RootKeyError> {
        let error = |message, hint| Err(RootKeyError { message, hint });
        if text == "passphrase" {
            return Ok(Self::Passphrase);
        }
        match text.split_once(':') {
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(base.join(path))),
            Some(("credential", name)) => match credential(name) {
                Some(name) => Ok(Self::Credential(name)),
                None => error("this cannot be the name of a credential", "letters, digits, `.`, `_` and `-`"),
            },
            Some(("pkcs11", rest)) => Token::parse(text, rest).map(|token| Self::Token(Box::new(token))),
            Some(("passphrase", _)) => {
                error("a passphrase is asked for at start, never written here", "root_key = \"passphrase\"")
            }
            _ => error("this does not say where the root key comes from", FORMS),
        }
    }

    /// In a word, for findings and answers.
    pub fn word(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Credential(_) => "credential",
            Self::Passphrase => "passphrase",
            Self::Token(_) => "token",
        }
    }
}

/// As it is written in the settings.
impl fmt::Display for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Credential(name) => write!(f, "credential:{name}"),
            Self::Passphrase => f.write_str("passphrase"),
            Self::Token(token) => f.write_str(&token.uri),
        }
    }
}

/// A name that leads to no other directory.
fn credential(name: &str) -> Option<String> {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    (plain && !name.is_empty() && !name.starts_with('.')).then(|| name.to_owned())
}

impl Token {
    fn parse(uri: &str, rest: &str) -> Result<Self, RootKeyError> {
        let error = |message, hint| RootKeyError { message, hint };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut module = None;
        let mut pin = None;
        let mut token = Self {
            uri: uri.to_owned(),
            module: PathBuf::new(),
            label: None,
            serial: None,
            manufacturer: None,
            model: None,
            slot: None,
            object: None,
            id: None,
            pin: PinSource::File(PathBuf::new()),
        };
        let encoded = "letters outside RFC 7512's are written %20, each with two hex digits";
        for attribute in path.split(';').chain(query.split('&')).filter(|attribute| !attribute.is_empty()) {
            let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
            let bytes = percent_decoded(value).ok_or_else(|| error("this URI has a damaged %", encoded))?;
            let text = || String::from_utf8(bytes.clone()).map_err(|_| error("this URI holds no text", encoded));
            match name {
                "token" => token.label = Some(text()?),
                "serial" => token.serial = Some(text()?),
                "manufacturer" => token.manufacturer = Some(text()?),
                "model" => token.model = Some(text()?),
                "slot-id" => {
                    let number = text()?.parse().map_err(|_| error("`slot-id` is a number", "slot-id=3"))?;
                    token.slot = Some(number);
                }
                "object" => token.object = Some(text()?),
                "id" => token.id = Some(bytes),
                "type" if value == "secret-key" => {}
                "type" => {
                    let hint = "type=secret-key: an AES key of 256 bits that encrypts and decrypts";
                    return Err(error("the root key is wrapped by a secret key", hint));
                }
                "module-path" => module = Some(PathBuf::from(text()?)),
                "pin-source" => pin = Some(pin_source(&text()?)?),
                "pin-value" => {
                    let hint = "pin-source=file:/etc/sealdrop/pin (mode 0600), or pin-source=credential:NAME";
                    return Err(error("a PIN has no place in the settings", hint));
                }
                _ => {
                    let hint =
                        "known: token, serial, manufacturer, model, slot-id, object, id, type; module-path, pin-source";
                    return Err(error("this URI has an attribute that is not known here", hint));
                }
            }
        }
        let module = module.filter(|module| module.is_absolute());
        token.module = module.ok_or_else(|| {
            error("the token's library is not named", "?module-path=/usr/lib/softhsm/libsofthsm2.so, an absolute path")
        })?;
        token.pin = pin.ok_or_else(|| {
            error("where the PIN is read is not said", "&pin-source=file:/etc/sealdrop/pin, or credential:NAME")
        })?;
        if token.object.is_none() && token.id.is_none() {
            return Err(error("the key in the token is not named", "object=LABEL, or id=%01"));
        }
        Ok(token)
    }
}

fn pin_source(text: &str) -> Result<PinSource, RootKeyError> {
    if let Some(name) = text.strip_prefix("credential:").and_then(credential) {
        return Ok(PinSource::Credential(name));
    }
    let path = Path::new(text.strip_prefix("file:").unwrap_or(text));
    if path.is_absolute() {
        return Ok(PinSource::File(path.to_owned()));
    }
    Err(RootKeyError {
        message: "this does not say where the PIN is",
        hint: "pin-source=file:/etc/sealdrop/pin, or pin-source=credential:NAME",
    })
}

fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => out.push(digit(bytes.next()?)? << 4 | digit(bytes.next()?)?),
            byte => out.push(byte),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RootKey, RootKeyError> {
        RootKey::parse(text, Path::new("/etc/sealdrop"))
    }

    #[test]
    fn each_place_is_read_and_written_back() {
        assert_eq!(parse("file:root"), Ok(RootKey::File("/etc/sealdrop/root".into())));
        assert_eq!(parse("file:/run/root").unwrap().to_string(), "file:/run/root");
        assert_eq!(parse("credential:root-2").unwrap().to_string(), "credential:root-2");
        assert_eq!(parse("passphrase"), Ok(RootKey::Passphrase));
        let uri = "pkcs11:token=St%20Mary;object=root;id=%01%ff;type=secret-key?module-path=/m.so&pin-source=file:/p";
        let RootKey::Token(token) = parse(uri).unwrap() else { panic!() };
        assert_eq!((token.label.as_deref(), token.object.as_deref()), (Some("St Mary"), Some("root")));
        assert_eq!((token.id.as_deref(), &token.pin), (Some(&[1, 255][..]), &PinSource::File("/p".into())));
        assert_eq!(token.uri, uri);
    }

    #[test]
    fn what_names_no_key_or_holds_a_secret_is_refused_with_what_to_write() {
        for (text, message) in [
            ("root", "does not say where"),
            ("file:", "does not say where"),
            ("credential:../root", "name of a credential"),
            ("credential:.", "name of a credential"),
            ("passphrase:hunter2", "never written here"),
            ("pkcs11:object=a?module-path=/m&pin-value=1234", "no place in the settings"),
            ("pkcs11:object=a?module-path=m&pin-source=/p", "library is not named"),
            ("pkcs11:object=a?module-path=/m", "PIN is read"),
            ("pkcs11:object=a?module-path=/m&pin-source=p", "where the PIN is"),
            ("pkcs11:token=t?module-path=/m&pin-source=/p", "not named"),
            ("pkcs11:object=a;type=private?module-path=/m&pin-source=/p", "by a secret key"),
            ("pkcs11:object=%g1?module-path=/m&pin-source=/p", "damaged %"),
            ("pkcs11:object=a;colour=red?module-path=/m&pin-source=/p", "not known here"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.message.contains(message) && !error.hint.is_empty(), "{text}: {error:?}");
        }
    }
}
