//! The `[login]` table of a policy file: keys, certificates, password, what is required, from where and when. An empty list is refused
//! wherever it could be read as "everyone".

use ipnet::IpNet;

use crate::clock::Time;
use crate::config::reader::Reader;
use crate::config::sshkey;
use crate::config::table::{At, ListedKey, Table, TextLists};
use crate::names::UserName;
use crate::policy::password::{PasswordError, PasswordHash};
use crate::policy::totp::{SealedSecret, TotpError};
use crate::policy::{Login, Method, PublicKey, Window};

/// `None` if the reader has been told of an error; usable keys go to `seen` all the same.
pub fn login(table: &Table<'_>, user: Option<&UserName>, seen: &mut Vec<At<PublicKey>>) -> Option<Login> {
    let reader = table.reader();
    let certificates = table.has("authorities") || table.has("principals");
    let listed = table.keys("keys");
    let ways = table.has("require").then(|| table.text_lists("require")).flatten();
    let external = ways
        .as_ref()
        .is_some_and(|ways| ways.value.iter().any(|way| way.value.iter().any(|word| word.value == "external")));
    if let Some(texts) = &listed {
        if texts.value.is_empty() && !table.has("password") && !certificates && !external {
            reader.error(
                texts.span.clone(),
                "without a key or a password nobody can log in",
                "add a key; to lock the account write disabled = true",
            );
        }
        for ListedKey { text, expires } in &texts.value {
            public_key(reader, text, *expires, seen);
        }
    }
    let password = table.text("password").and_then(|text| password(reader, &text));
    let authorities = authorities(table);
    let principals = principals(table, user);
    let keys = listed.map_or(table.has("keys"), |keys| !keys.value.is_empty()) || certificates;
    let has_password = table.has("password");
    if table.is_there() && !table.has("keys") && !has_password && !certificates && !external {
        reader.error(
            table.span.clone(),
            "without a key or a password nobody can log in",
            "add keys = [\"ssh-ed25519 AAAA…\"]",
        );
    }
    let totp = table.text("totp").and_then(|text| totp(reader, &text));
    let require = require(table, ways, keys, has_password, table.has("totp"));
    let from = from(table);
    let guessable = require
        .as_ref()
        .is_some_and(|ways| ways.iter().any(|way| way == &[Method::Password] || way == &[Method::External]));
    if guessable && from.as_ref().is_some_and(Vec::is_empty) {
        reader.warn(
            table.span_of(if external { "require" } else { "password" }),
            "a password alone can be guessed at from anywhere",
            "add `from`, or require a key as well",
        );
    }
    let hours = hours(table);
    let disabled = table.flag("disabled");
    let expires = table.moment("expires").map(|at| at.value);
    let keys = seen.iter().map(|at| at.value.clone()).collect();
    Some(Login {
        keys,
        authorities: authorities?,
        principals: principals?,
        password,
        totp,
        require: require?,
        from: from?,
        hours: hours?,
        disabled,
        expires,
    })
}

/// Keys that may certify a user's, in `[login]` or in `[certificates]`; `None` after an error.
pub fn authorities(table: &Table<'_>) -> Option<Vec<PublicKey>> {
    if !table.has("authorities") {
        return Some(Vec::new());
    }
    let (texts, mut seen) = (table.texts("authorities")?, Vec::new());
    if texts.value.is_empty() {
        let hint = "leave the key out where no certificates are taken";
        table.reader().error(texts.span.clone(), "an empty list of authorities", hint);
        return None;
    }
    for text in &texts.value {
        public_key(table.reader(), text, None, &mut seen);
    }
    Some(seen.into_iter().map(|at| at.value).collect())
}

/// What a certificate must be for; the user's own name where only `authorities` are given.
fn principals(table: &Table<'_>, user: Option<&UserName>) -> Option<Vec<String>> {
    if !table.has("principals") {
        let own = user.filter(|_| table.has("authorities")).map(ToString::to_string);
        return Some(own.into_iter().collect());
    }
    let texts = table.texts("principals")?;
    if texts.value.is_empty() {
        let hint = "name what certificates must be for, or leave the key out";
        table.reader().error(texts.span.clone(), "an empty list of principals", hint);
        return None;
    }
    for text in &texts.value {
        if text.value.trim() != text.value || text.value.is_empty() || text.value.contains([',', '*', '?']) {
            let hint = "one name, as `ssh-keygen -n` takes it between commas; there are no patterns";
            table.reader().error(text.span.clone(), "this cannot be a principal", hint);
        }
    }
    Some(texts.value.iter().map(|text| text.value.to_owned()).collect())
}

fn public_key(reader: &Reader, text: &At<&str>, expires: Option<Time>, seen: &mut Vec<At<PublicKey>>) {
    match sshkey::parse(text.value) {
        Ok(parsed) => {
            if seen.iter().any(|other| other.value.blob == parsed.key.blob) {
                reader.warn(text.span.clone(), "this key is given twice", "remove one of the two");
                return;
            }
            if let Some((message, hint)) = parsed.unwise {
                reader.warn(text.span.clone(), message, hint);
            }
            seen.push(At { value: PublicKey { expires, ..parsed.key }, span: text.span.clone() });
        }
        Err((message, hint)) => {
            // Whatever it is, it may be the wrong half.
            if !text.value.starts_with("ssh-") && !text.value.starts_with("ecdsa-") && !text.value.starts_with("sk-") {
                reader.hide(text.span.clone());
            }
            reader.error(text.span.clone(), message, hint);
        }
    }
}

fn password(reader: &Reader, text: &At<&str>) -> Option<PasswordHash> {
    reader.hide(text.span.clone());
    const HOW: &str = "`sealdrop passwd` makes one, $argon2id$v=19$m=65536,t=3,p=1$…";
    match text.value.parse() {
        Ok(hash) => Some(hash),
        Err(error) => {
            let hint = match &error {
                PasswordError::NotAHash if !text.value.starts_with('$') => {
                    format!("never write the password itself; {HOW}")
                }
                _ => HOW.to_owned(),
            };
            reader.error(text.span.clone(), error.to_string(), hint);
            None
        }
    }
}

fn totp(reader: &Reader, text: &At<&str>) -> Option<SealedSecret> {
    reader.hide(text.span.clone());
    match text.value.parse() {
        Ok(secret) => Some(secret),
        Err(error) => {
            let hint = match error {
                TotpError::Open => "never write the secret itself; `sealdrop totp USER` makes one and prints it sealed",
                TotpError::Form => "`sealdrop totp USER` prints the line: totp = \"totp1-…\"",
            };
            reader.error(text.span.clone(), error.to_string(), hint);
            None
        }
    }
}

const METHODS: [(&str, Method); 4] = [
    ("publickey", Method::PublicKey),
    ("password", Method::Password),
    ("totp", Method::Totp),
    ("external", Method::External),
];

fn require(
    table: &Table<'_>,
    lists: Option<TextLists<'_>>,
    keys: bool,
    password: bool,
    totp: bool,
) -> Option<Vec<Vec<Method>>> {
    let reader = table.reader();
    if !table.has("require") {
        if totp {
            let hint = "for example require = [\"publickey\", \"totp\"], or [\"password\", \"totp\"]";
            reader.error(table.span_of("totp"), "with `totp`, say which methods must be passed", hint);
            return None;
        }
        return match (keys, password) {
            (true, true) => {
                let hint = "both: require = [\"publickey\", \"password\"]; either: require = [[\"publickey\"], [\"password\"]]";
                reader.error(table.span_of("password"), "with keys and a password, say which must be passed", hint);
                None
            }
            (false, true) => Some(vec![vec![Method::Password]]),
            (_, false) => Some(vec![vec![Method::PublicKey]]),
        };
    }
    let lists = lists?;
    let mut ways: Vec<Vec<Method>> = Vec::new();
    for list in &lists.value {
        let mut way = Vec::new();
        for word in &list.value {
            let Some(method) = table.one_of("require", word, &METHODS) else { continue };
            let (given, key) = match method {
                Method::PublicKey => (keys, "keys"),
                Method::Password => (password, "password"),
                Method::Totp => (totp, "totp"),
                // Whether there is an authenticator, the server's settings say.
                Method::External => (true, "external"),
            };
            if method == Method::External && password {
                let hint = "remove `password`: the site's authenticator decides on the one that the client sends";
                reader.error(word.span.clone(), "a user has one password, here or outside", hint);
                continue;
            }
            if method == Method::Totp && way.is_empty() {
                let hint =
                    "six digits alone can be guessed: write [\"publickey\", \"totp\"] or [\"password\", \"totp\"]";
                reader.error(word.span.clone(), "a code comes after another method", hint);
            } else if way.contains(&method) {
                reader.error(word.span.clone(), format!("`{method}` is asked for twice"), "each method counts once");
            } else if !given {
                reader.error(
                    word.span.clone(),
                    format!("`{method}` is asked for and there is no `{key}`"),
                    format!("add `{key}` to [login]"),
                );
            } else {
                way.push(method);
            }
        }
        if list.value.is_empty() {
            reader.error(list.span.clone(), "an empty list would let everyone in", "name a method: [\"publickey\"]");
        } else if let Some(shorter) = ways.iter().find(|other| way.starts_with(other) || other.starts_with(&way))
            && !way.is_empty()
            && !shorter.is_empty()
        {
            reader.error(
                list.span.clone(),
                "one of these alternatives contains another",
                "the shorter would always do: remove one",
            );
        }
        ways.push(way);
    }
    let set =
        [("keys", keys, Method::PublicKey), ("password", password, Method::Password), ("totp", totp, Method::Totp)];
    for (name, given, method) in set {
        if given && !reader.has_errors() && !ways.iter().any(|way| way.contains(&method)) {
            reader.warn(
                table.span_of(name),
                format!("`{name}` is never used: `require` does not ask for it"),
                format!("remove it, or add \"{method}\" to `require`"),
            );
        }
    }
    (!ways.is_empty() && ways.iter().all(|way| !way.is_empty())).then_some(ways)
}

/// The networks of `from`; none if it is not there.
pub fn from(table: &Table<'_>) -> Option<Vec<IpNet>> {
    let reader = table.reader();
    if !table.has("from") {
        return Some(Vec::new());
    }
    let texts = table.texts("from")?;
    if texts.value.is_empty() {
        reader.error(
            texts.span.clone(),
            "does an empty `from` mean anywhere or nowhere?",
            "leave the key out for anywhere; write disabled = true for nowhere",
        );
        return None;
    }
    let mut nets = Vec::new();
    for text in &texts.value {
        let net = match text.value.parse::<IpNet>() {
            Ok(net) => net,
            Err(_) => {
                match text.value.parse::<std::net::IpAddr>() {
                    Ok(address) => IpNet::from(address),
                    Err(_) => {
                        reader.error(text.span.clone(), "this is not an address or a network", "for example \"203.0.113.9\", \"203.0.113.0/24\" or \"2001:db8::/32\"; names are not looked up");
                        continue;
                    }
                }
            }
        };
        if net.trunc() != net {
            let hint = format!("the network is \"{}\", the one address \"{}\"", net.trunc(), net.addr());
            reader.error(text.span.clone(), "this network has bits set beyond its length", hint);
        } else if let IpNet::V6(v6) = net
            && v6.addr().to_ipv4_mapped().is_some()
        {
            reader.error(text.span.clone(), "this is an IPv4 network in IPv6 form", "write it as IPv4");
        } else if net.prefix_len() == 0 {
            reader.warn(text.span.clone(), "this is every address", "leave `from` out if anywhere is meant");
        }
        nets.push(net);
    }
    Some(nets)
}

fn hours(table: &Table<'_>) -> Option<Vec<Window>> {
    let reader = table.reader();
    if !table.has("hours") {
        return Some(Vec::new());
    }
    let texts = table.texts("hours")?;
    if texts.value.is_empty() {
        let hint = "leave the key out for any time; write disabled = true for never";
        reader.error(texts.span, "does an empty `hours` mean always or never?", hint);
        return None;
    }
    let mut windows = Vec::new();
    for text in texts.value {
        match Window::parse(text.value) {
            Ok(window) => windows.push(window),
            Err(error) => reader.error(text.span, error.to_string(), error.hint()),
        }
    }
    Some(windows)
}
