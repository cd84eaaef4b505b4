//! What the default file says, and what is refused with the name of the key.

use super::*;

#[test]
fn a_file_that_is_broken_is_told_without_what_stands_in_it() {
    for broken in [
        "admin_key = s3cret-without-quotes",
        "admin_key = \"s3cret \\q\"",
        "admin_key = \"s3cret",
        "secrets_keys = s3cret",
        "secrets_keys = 531337",
        "admin_key = 531337",
        "[tracing]\notlp_headers = 531337",
        "[tracing]\notlp_headers = authorization=s3cret",
        "[postgres]\nurl = 531337",
        "[postgres]\nurl = postgres://kite:s3cret@localhost",
        "listen = \"127.0.0.1:1\"\nadmin_key = \"\"\"s3cret\n531337",
    ] {
        let told = format!("{:#}", Config::from_text(broken).err().unwrap());
        assert!(!told.contains("s3cret") && !told.contains("531337"), "{told}");
        assert!(told.contains("line") || told.contains("is no text"), "{told}");
    }
}

#[test]
fn the_default_file_says_everything_once() {
    let config = Config::compiled_in().unwrap();
    assert_eq!(config.roles().len(), Role::ALL.len());
    assert_eq!(config.accept_limits(), AcceptLimits::default());
    let api = ApiConfig::default();
    assert_eq!(config.api, api, "default.toml and ApiConfig::default() differ");
    assert_eq!(config.server, ServerSettings::default(), "default.toml and ServerSettings::default() differ");
    let all = serde_json::to_value(&config.server).unwrap();
    assert_eq!(
        toml_keys::of(DEFAULT, "[server]"),
        toml_keys::of_value(&all),
        "every key stands in the manual"
    );
    assert_eq!(config.tls, TlsSettings::default(), "in the clear unless it is given a certificate");
    let all = serde_json::to_value(&config.tls).unwrap();
    assert_eq!(toml_keys::of(DEFAULT, "[tls]"), toml_keys::of_value(&all));
    assert_eq!(config.store.engine, Engine::Sqlite);
    let all = serde_json::to_value(&config.store).unwrap();
    assert_eq!(toml_keys::of(DEFAULT, "[store]"), toml_keys::of_value(&all));
    let all = serde_json::to_value(&config.read_models).unwrap();
    assert_eq!(toml_keys::of(DEFAULT, "[read_models]"), toml_keys::of_value(&all));
    let all = serde_json::to_value(&config.postgres).unwrap();
    assert_eq!(toml_keys::of(DEFAULT, "[postgres]"), toml_keys::of_value(&all));
    assert!(config.tracing == TracingSettings::default(), "default.toml and TracingSettings differ");
    let all = serde_json::to_value(&config.tracing).unwrap();
    assert_eq!(toml_keys::of(DEFAULT, "[tracing]"), toml_keys::of_value(&all));
}

#[test]
fn read_models_in_postgresql_need_a_log_there_and_let_roles_do_without_a_projector() {
    let shared = "[read_models]\nengine = \"postgres\"\n";
    let alone = Config::from_text(shared).err().unwrap();
    assert!(alone.to_string().contains("needs store.engine"), "{alone:#}");
    let log = "[store]\nengine = \"postgres\"\n[postgres]\nurl = \"postgres://kite@localhost/kite\"\n";
    let roles = "roles = [\"timekeeper\", \"api\"]\n";
    Config::from_text(&format!("{roles}{log}{shared}")).unwrap().check_store().unwrap();
    assert!(Config::from_text(&format!("{roles}{log}")).is_err());
    let none = format!("{log}{shared}connections_max = 0\n");
    assert!(Config::from_text(&none).err().unwrap().to_string().contains("connections_max"));
}

#[test]
fn a_log_in_postgresql_has_what_it_needs_or_the_key_is_named() {
    let with = |text: &str| Config::from_text(&format!("[store]\nengine = \"postgres\"\n{text}"));
    let told =
        |text: &str| with(text).and_then(|config| config.check_store()).map_err(|error| format!("{error:#}"));
    let server = "[postgres]\nurl = \"postgres://kite@localhost/kite\"\n";
    assert_eq!(told(server), Ok(()), "with TLS, by the system's authorities");
    assert!(told("").unwrap_err().starts_with("postgres.url: is empty"));
    let missing = told(&format!("{server}authorities_file = \"/nowhere.pem\"")).unwrap_err();
    assert!(missing.starts_with("postgres.authorities_file: cannot read /nowhere.pem"), "{missing}");
    let none = told(&format!("{server}connections_max = 0")).unwrap_err();
    assert!(none.starts_with("postgres.connections_max: 0"), "{none}");
    let prefer = told(&format!("{server}sslmode = \"prefer\"")).unwrap_err();
    assert!(prefer.contains("sslmode") && prefer.contains("verify-full"), "{prefer}");
    let mut config = with(server).unwrap();
    config.backup_dir = "backups".into();
    let backups = format!("{:#}", config.check_store().unwrap_err());
    assert!(backups.starts_with("backup_dir: the log is in PostgreSQL"), "{backups}");
    let mut config = with(server).unwrap();
    config.roles = [Role::Api].into();
    let roles = format!("{:#}", config.check_store().unwrap_err());
    assert!(roles.starts_with("roles: api needs projector"), "{roles}");
}

#[test]
fn the_example_for_an_installation_is_good() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../infra/kite.toml");
    let config = Config::load(Some(Path::new(file))).unwrap();
    assert_eq!(config.data_dir, Path::new("data"));
}

#[test]
fn the_default_file_says_what_the_relay_workers_do_by_default() {
    assert_eq!(Config::compiled_in().unwrap().relays, RelaySettings::default());
    let all = serde_json::to_value(RelaySettings::default()).unwrap();
    let mut written = toml_keys::of(DEFAULT, "[relays]");
    written.insert("breaker".to_owned());
    assert_eq!(written, toml_keys::of_value(&all), "default.toml is the manual: every key stands in it");
    assert_eq!(toml_keys::of(DEFAULT, "[relays.breaker]"), toml_keys::of_value(&all["breaker"]));
}

#[test]
fn acceptance_and_relay_workers_have_the_same_night() {
    let config = Config::from_text("[relays]\nnight = \"20:00-09:00\"").unwrap();
    assert_eq!(config.accept_limits().night, config.relays.night);
    assert_eq!(config.relays.night.to_string(), "20:00-09:00");
}

#[test]
fn administration_listens_where_the_api_does_unless_it_has_an_address_of_its_own() {
    let with = |text: &str| Config::from_text(text).map_err(|error| format!("{error:#}"));
    let config = with("listen = \"127.0.0.1:9000\"").unwrap();
    assert_eq!((config.admin_listen, config.admin_address()), (None, config.listen));
    let config = with("admin_listen = \"127.0.0.1:9001\"").unwrap();
    assert_eq!(config.admin_address().port(), 9_001);
    let twice = with("listen = \"127.0.0.1:9000\"\nadmin_listen = \"127.0.0.1:9000\"").err().unwrap();
    assert!(twice.starts_with("admin_listen: 127.0.0.1:9000 is where"), "{twice}");
    let wrong = with("admin_listen = \"9001\"").err().unwrap();
    assert!(wrong.starts_with("admin_listen: `9001` is no address"), "{wrong}");
}

#[test]
fn backups_have_no_place_in_the_data_directory() {
    let directory = tempfile::tempdir().unwrap();
    let of = |backups: &str| Config {
        data_dir: directory.path().join("data"),
        backup_dir: directory.path().join(backups),
        ..Config::compiled_in().unwrap()
    };
    Config::compiled_in().unwrap().check_backup_dir().unwrap();
    of("backups").check_backup_dir().unwrap();
    for is_made in [false, true] {
        if is_made {
            std::fs::create_dir(directory.path().join("data")).unwrap();
        }
        for inside in ["data", "data/backups"] {
            let wrong = format!("{:#}", of(inside).check_backup_dir().unwrap_err());
            assert!(wrong.starts_with("backup_dir: ") && wrong.contains("is inside"), "{wrong}");
        }
    }
}

#[test]
fn a_key_that_is_no_text_is_not_told() {
    let wrong = Config::from_text("admin_key = 271828182845904523").err().unwrap().to_string();
    assert!(wrong.contains("admin_key") && !wrong.contains("271828"), "{wrong}");
}

/// The keys of a section, for comparing the manual with the settings.
mod toml_keys {
    use std::collections::BTreeSet;

    pub(super) type Keys = BTreeSet<String>;

    pub(super) fn of(text: &str, section: &str) -> Keys {
        let body = text.split(section).nth(1).unwrap_or_default();
        let body = body.split("\n[").next().unwrap_or_default();
        let keys = body.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
        keys.map(|(key, _)| key.trim().to_owned()).collect()
    }

    pub(super) fn of_value(value: &serde_json::Value) -> Keys {
        value.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect()
    }
}

#[test]
fn a_wrong_key_is_named_with_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("kite.toml");
    for (text, told) in [
        ("[limits]\nopen_mesages_max = 5\n", "open_mesages_max"),
        ("listen = 8080\n", "listen"),
        ("[limits]\npassword_reserve_per_cent = 51\n", "kite.toml: limits: password_reserve_per_cent"),
        ("roles = [\"projector\", \"worker\"]\n", "kite.toml: roles: worker needs publisher"),
        (
            "[server]\ntrusted_proxies = [\"proxy\"]\n",
            "kite.toml: server.trusted_proxies: `proxy` is no address",
        ),
        ("[tls]\ncertificate_file = \"chain.pem\"\n", "kite.toml: tls.key_file: is missing"),
        ("[tracing]\notlp_endpoint = \"collector\"\n", "kite.toml: tracing.otlp_endpoint"),
        ("[server]\nheaders_timeout_ms = 0\n", "kite.toml: server.headers_timeout_ms"),
    ] {
        std::fs::write(&file, text).unwrap();
        let error = Config::load(Some(&file)).err().unwrap().to_string();
        assert!(error.contains("kite.toml") && error.contains(told), "{text}: {error}");
    }
}
