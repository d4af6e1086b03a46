//! The published JSON Schemas, tried by a validator that is not ours: every shipped sample is valid, and slips that a schema
//! can know of are not.

use std::path::Path;
use std::process::Command;

use crate::run::run;
use crate::site::{SEALDROP, have_python};

/// Reads `schema\nfile\n` pairs and TOML; prints what is wrong, a line each.
const VALIDATE: &str = r#"
import json, sys, tomllib, jsonschema
schema = json.load(open(sys.argv[1]))
jsonschema.Draft7Validator.check_schema(schema)
document = json.loads(json.dumps(tomllib.loads(sys.stdin.read()), default=str))
for error in jsonschema.Draft7Validator(schema).iter_errors(document):
    print(list(error.path), error.message)
"#;

fn problems(schema: &str, toml: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", VALIDATE]).arg(root.join("config/schema").join(schema));
    run(command, toml.as_bytes()).ok()
}

fn sample(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(path)).unwrap()
}

#[test]
fn every_sample_is_valid_and_names_its_schema() {
    if !have_python("jsonschema") {
        return;
    }
    let policies = ["acme-imaging", "city-lab", "st-mary-radiology", "ward-seven"];
    let policies = policies.map(|name| (format!("policies/{name}.toml"), "policy.schema.json"));
    for (path, schema) in [("sealdrop.toml".to_owned(), "sealdrop.schema.json")].into_iter().chain(policies) {
        let text = sample(&path);
        assert_eq!(problems(schema, &text), "", "{path}");
        let first = text.lines().next().unwrap();
        let named = first.strip_prefix("#:schema ").unwrap_or_else(|| panic!("{path} begins with {first}"));
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
        assert!(root.join(&path).parent().unwrap().join(named).exists(), "{path} names {named}");
        // What is shown as a comment is a setting as well.
        let shown: String = text
            .lines()
            .map(|line| {
                let setting = line.trim_start_matches(['#', ' ']);
                let is_key = setting
                    .split_once(" = ")
                    .is_some_and(|(key, _)| key.trim().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
                let line = if line.starts_with('#') && (is_key || setting.starts_with('[')) { setting } else { line };
                format!("{line}\n")
            })
            .collect();
        assert_eq!(problems(schema, &shown), "", "{path} with all that it shows");
    }
}

#[test]
fn a_slip_is_underlined_while_it_is_typed() {
    if !have_python("jsonschema") {
        return;
    }
    let policy = sample("policies/acme-imaging.toml");
    for (old, new, word) in [
        ("max_size ", "max-size ", "max-size"),
        ("\"72h\"", "72", "72"),
        ("\"72h\"", "\"72 months\"", "72 months"),
        ("expire        = \"72h\"", "", "expire"),
        ("\"drop\"", "\"dorp\"", "dorp"),
        ("\"10 GiB\"", "\"10G\"", "10G"),
        ("[login]", "[log-in]", "log-in"),
        ("sessions = 8", "sessions = \"8\"", "'8'"),
        ("[\"publickey\"]", "[\"pubkey\"]", "pubkey"),
    ] {
        assert!(policy.contains(old), "{old}");
        let told = problems("policy.schema.json", &policy.replacen(old, new, 1));
        assert!(told.contains(word), "{new}: {told}");
    }
    for good in [
        "require = [[\"publickey\"], [\"password\"]]",
        "require = [\"publickey\", \"password\"]",
        "expires = 2027-01-01",
    ] {
        assert_eq!(
            problems("policy.schema.json", &policy.replacen("require = [\"publickey\"]", good, 1)),
            "",
            "{good}"
        );
    }
    let sealed = sample("policies/city-lab.toml");
    let keyless: String =
        sealed.lines().filter(|line| !line.starts_with("key ")).map(|line| format!("{line}\n")).collect();
    assert!(problems("policy.schema.json", &keyless).contains("'key' is a required property"));
}

#[test]
fn the_command_prints_what_is_published_and_init_lays_it_where_the_samples_look() {
    let dir = tempfile::tempdir().unwrap();
    let mut init = Command::new(SEALDROP);
    init.arg("init").arg("--config").arg(dir.path().join("sealdrop.toml")).arg("--state").arg(dir.path().join("state"));
    run(init, b"").ok();
    for (word, name) in [("server", "sealdrop.schema.json"), ("policy", "policy.schema.json")] {
        let mut command = Command::new(SEALDROP);
        command.args(["schema", word]);
        let told = run(command, b"").ok();
        assert_eq!(told, sample(&format!("schema/{name}")), "{name}");
        assert_eq!(told, std::fs::read_to_string(dir.path().join("schema").join(name)).unwrap());
    }
}
