//! Templates: what several users' files have in common, `templates/<name>.toml` beside them. A user's file names one, and has
//! what the template says and it does not say itself: keys of `[login]` and `[limits]` one by one, a folder by its path and
//! `[inbox]` whole. `%u` in the path of a template's folder is the user's name. What is wrong with a template is shown in its
//! own file, with the user for whom it is wrong.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::profiles::Profiles;
use crate::config::reader::Reader;
use crate::config::suggest::nearest;
use crate::names::UserName;

/// The directory of templates, within that of the policies.
pub const DIRECTORY: &str = "templates";

/// Of `[login]`: what is one user's own. In a template it would let every user in as every other.
const OWN: [&str; 4] = ["keys", "password", "totp", "principals"];

/// What users' files can refer to.
#[derive(Default)]
pub struct Shared {
    pub templates: BTreeMap<String, Template>,
    pub profiles: Profiles,
}

pub struct Template {
    pub file: PathBuf,
    pub text: Arc<str>,
}

/// Whether a policy file is a template, by where it lies.
pub fn is_template(file: &Path) -> bool {
    file.parent().and_then(Path::file_name).is_some_and(|directory| directory == DIRECTORY)
}

/// What is wrong with a template whoever uses it.
pub fn check(reader: &Reader) {
    let Some(document) = reader.parse() else { return };
    for (key, value) in document.get_ref().iter() {
        let name = key.get_ref().as_ref();
        if ["user", "template"].contains(&name) {
            let hint = "it stands in the file of each user who takes the template";
            reader.error(key.span(), format!("a template has no `{name}` of its own"), hint);
        }
        if name == "login"
            && let DeValue::Table(login) = value.get_ref()
        {
            for (key, _) in login.iter().filter(|(key, _)| OWN.contains(&key.get_ref().as_ref())) {
                let hint = "write it in the file of the user whose it is";
                reader.error(key.span(), format!("`{}` is one user's own", key.get_ref()), hint);
            }
        }
        percents(reader, name, key.get_ref().as_ref(), value);
    }
}

/// `%` in texts, wherever they stand: `%u` in a folder's path, and nowhere else what could be meant for it.
fn percents(reader: &Reader, table: &str, key: &str, value: &Spanned<DeValue<'_>>) {
    match value.get_ref() {
        DeValue::String(text) if table == "folder" && key == "path" => {
            if let Err(found) = expanded(text, "u") {
                let hint = "`%u` is the user's name, and `%%` is a `%`: nothing else is known";
                reader.error(value.span(), format!("`{found}` stands for nothing in a template"), hint);
            }
        }
        DeValue::String(text) if text.contains("%u") => {
            let hint = "write this key in the users' own files";
            reader.error(value.span(), "`%u` stands for the user's name in a folder's `path` alone", hint);
        }
        DeValue::Array(items) => items.iter().for_each(|item| percents(reader, table, key, item)),
        DeValue::Table(entries) => {
            entries.iter().for_each(|(key, value)| percents(reader, table, key.get_ref().as_ref(), value));
        }
        _ => {}
    }
}

/// With `%u` and `%%` replaced; the error is what else stands after a `%`.
pub fn expanded(text: &str, user: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        match after.chars().next() {
            Some('u') => out.push_str(user),
            Some('%') => out.push('%'),
            other => return Err(other.map_or_else(|| "%".to_owned(), |other| format!("%{other}"))),
        }
        rest = &after[1..];
    }
    out.push_str(rest);
    Ok(out)
}

/// Adds to the document of `user`'s file what its template says and it does not. Answers which template that was.
pub fn fill<'a>(reader: &'a Reader, document: &mut DeTable<'a>, user: &UserName, shared: &Shared) -> Option<String> {
    let (span, name) = match document.iter().find(|(key, _)| key.get_ref() == "template") {
        Some((_, value)) => (value.span(), value.get_ref().as_str()?.to_owned()),
        None => return None,
    };
    let Some(template) = shared.templates.get(&name) else {
        let hint = match nearest(&name, shared.templates.keys().map(String::as_str)) {
            Some(other) => format!("did you mean \"{other}\"?"),
            None => format!("templates are files in the directory of policies: {DIRECTORY}/{name}.toml"),
        };
        reader.error(span, format!("there is no template \"{name}\""), hint);
        return Some(name);
    };
    let text = reader.goes_on_with(&template.file, &template.text, user.as_str());
    let (theirs, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        reader.error(span, "this template cannot be read", format!("mend {}", template.file.display()));
        return Some(name);
    }
    for (key, mut value) in theirs.into_inner() {
        if key.get_ref() == "folder"
            && let DeValue::Array(folders) = value.get_mut()
        {
            folders.iter_mut().for_each(|folder| name_user(folder, user));
        }
        let own = document.iter_mut().find(|(own, _)| own.get_ref() == key.get_ref()).map(|(_, own)| own.get_mut());
        match (key.get_ref().as_ref(), own, value.get_ref()) {
            (_, None, _) => {
                document.insert(key, value);
            }
            ("login" | "limits", Some(DeValue::Table(own)), DeValue::Table(_)) => {
                let DeValue::Table(theirs) = value.into_inner() else { continue };
                for (key, value) in theirs {
                    if !own.iter().any(|(own, _)| own.get_ref() == key.get_ref()) {
                        own.insert(key, value);
                    }
                }
            }
            ("folder", Some(DeValue::Array(own)), DeValue::Array(_)) => {
                let DeValue::Array(theirs) = value.into_inner() else { continue };
                for folder in theirs {
                    let path = path_of(&folder);
                    if path.is_none() || !own.iter().any(|own| path_of(own) == path) {
                        own.push(folder);
                    }
                }
            }
            // The user's own, whole.
            _ => {}
        }
    }
    Some(name)
}

fn path_of(folder: &Spanned<DeValue<'_>>) -> Option<String> {
    let path = folder.get_ref().get("path")?;
    path.get_ref().as_str().map(str::to_owned)
}

fn name_user(folder: &mut Spanned<DeValue<'_>>, user: &UserName) {
    let DeValue::Table(entries) = folder.get_mut() else { return };
    for (_, value) in entries.iter_mut().filter(|(key, _)| key.get_ref() == "path") {
        if let DeValue::String(text) = value.get_mut()
            && let Ok(path) = expanded(text, user.as_str())
        {
            *text = Cow::Owned(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::clock::Time;
    use crate::config::places::Places;
    use crate::config::{Problem, Severity, policy_from, policy_of, profiles};
    use crate::policy::{Policy, PolicyText};

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFcYizeBcGOaXgIJ/GeMA6KMTGTHeSZ1TbsknHBxIMcm a";
    const PARTNER: &str = "[login]\nhours = [\"Mon-Fri 08:00-18:00 UTC\"]\nfrom = [\"192.0.2.0/24\"]\n[limits]\nfiles = 9\n\
        [[folder]]\npath = \"/from-%u\"\nkind = \"drop\"\nto = [\"lab\"]\nexpire = \"standard\"\n\
        [[folder]]\npath = \"/desk\"\nkind = \"shared\"\n";

    fn site(own: &str, template: &str) -> (Option<Policy>, Vec<Problem>) {
        let file = |name: &str, text: String| (PathBuf::from(format!("policies/{name}")), text.into_bytes());
        let login = format!("[login]\nkeys = [\"{KEY}\"]\n");
        let files = [
            file("acme.toml", format!("user = \"acme\"\ntemplate = \"partner\"\n{login}{own}")),
            file("lab.toml", format!("user = \"lab\"\n{}[inbox]\nmode = \"managed\"\n", login.replace("IMcm", "IMcn"))),
            file("templates/partner.toml", template.to_owned()),
        ];
        let standard = super::super::expire::read("24h or after 2 pickups", &Profiles::new()).unwrap();
        policy_from(&files, Time(1_795_308_143_000), false, None, Profiles::from([("standard".to_owned(), standard)]))
    }

    fn errors(problems: Vec<Problem>) -> Vec<Problem> {
        problems.into_iter().filter(|problem| problem.severity == Severity::Error).collect()
    }

    #[test]
    fn a_user_has_what_its_template_says_and_its_own_file_does_not() {
        let own =
            "from = [\"203.0.113.0/24\"]\n[[folder]]\npath = \"/desk\"\nkind = \"shared\"\nmax_size = \"1 MiB\"\n";
        let (policy, problems) = site(own, PARTNER);
        let policy = policy.unwrap_or_else(|| panic!("{problems:?}"));
        let acme = policy.user(&"acme".parse().unwrap()).unwrap();
        assert_eq!(acme.login.from, ["203.0.113.0/24".parse().unwrap()], "its own");
        assert_eq!((acme.login.hours.len(), acme.limits.files), (1, Some(9)), "the template's");
        let folders: Vec<String> = acme.folders.iter().map(|folder| folder.path.to_string()).collect();
        assert_eq!(folders, ["/desk", "/from-acme"]);
        assert!(acme.folders[0].max_size.is_some(), "the file's own folder, whole");
        assert_eq!((acme.folders[1].expire.unwrap().as_secs(), acme.folders[1].pickups), (24 * 3_600, Some(2)));

        let places = Places::of(&acme.name, &policy.texts, Path::new("policies")).unwrap();
        let at = |table: &str, key: &str| places.key(table, key).unwrap().to_string();
        assert_eq!(at("login", "from"), "policies/acme.toml:5");
        assert_eq!(at("login", "hours"), "policies/templates/partner.toml:2");
        assert_eq!(at("/from-acme", "expire"), "policies/templates/partner.toml:10");
        assert_eq!(at("/desk", "kind"), "policies/acme.toml:8");
    }

    #[test]
    fn the_digest_covers_templates_and_profiles_and_the_texts_alone_give_the_policy_back() {
        let (policy, _) = site("", PARTNER);
        let policy = policy.unwrap();
        let again = policy_of(&policy.texts).unwrap();
        assert_eq!(again.digest, policy.digest);
        let acme = again.user(&"acme".parse().unwrap()).unwrap();
        assert_eq!(acme.folders[0].pickups, Some(2));
        let (other, _) = site("", &PARTNER.replace("files = 9", "files = 8"));
        assert_ne!(other.unwrap().digest, policy.digest);
        let names: Vec<&str> = policy.texts.iter().map(|text: &PolicyText| text.name.as_str()).collect();
        assert_eq!(names, ["acme.toml", "lab.toml", "templates/partner.toml", profiles::TEXT]);
    }

    #[test]
    fn what_is_wrong_in_a_template_is_shown_in_its_file_with_the_user() {
        let (policy, problems) = site("", &PARTNER.replace("files = 9", "files = 0"));
        assert!(policy.is_none());
        let problems = errors(problems);
        let [problem] = &problems[..] else { panic!("{problems:?}") };
        assert_eq!(problem.file, Path::new("policies/templates/partner.toml"));
        assert_eq!((problem.line(), problem.column()), (Some(5), Some(9)));
        assert!(problem.message.ends_with("(for user \"acme\")"), "{}", problem.message);
    }

    #[test]
    fn a_template_gives_nobody_anothers_key_and_its_percents_lead_nowhere_else() {
        for (template, says) in [
            (format!("user = \"x\"\n{PARTNER}"), "no `user` of its own"),
            (PARTNER.replace("hours", &format!("keys = [\"{KEY}\"]\nhours")), "one user's own"),
            (PARTNER.replace("%u", "%h"), "`%h` stands for nothing"),
            (PARTNER.replace("\"lab\"", "\"%u\""), "`path` alone"),
            (PARTNER.replace("files", "fiels"), "unknown key `fiels`"),
            (PARTNER.replace("files = 9", "files = "), "not TOML"),
        ] {
            let (policy, problems) = site("", &template);
            assert!(policy.is_none(), "{template}");
            let said = errors(problems);
            assert!(said.iter().any(|problem| problem.message.contains(says)), "{says}: {said:?}");
        }
        let (policy, problems) = site("[limits]\nfiles = 1\n", "");
        assert!(policy.is_some(), "{problems:?}");
    }

    #[test]
    fn a_percent_stands_for_the_user_or_for_itself_and_for_nothing_else() {
        assert_eq!(expanded("/from/%u/in", "acme"), Ok("/from/acme/in".to_owned()));
        assert_eq!(expanded("/100%%u%%", "acme"), Ok("/100%u%".to_owned()));
        for (text, found) in [("/%h", "%h"), ("/a%", "%"), ("/%U", "%U"), ("/%ü", "%ü")] {
            assert_eq!(expanded(text, "acme"), Err(found.to_owned()));
        }
    }
}
