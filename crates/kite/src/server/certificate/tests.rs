use super::*;
use crate::server::made::{Files, write};
use kite_commands::clock::ManualClock;
use kite_testkit::certificates::{Authority, Made};

fn day(year: i32) -> DateTime<Utc> {
    chrono::NaiveDate::from_ymd_opt(year, 1, 1).unwrap().and_time(chrono::NaiveTime::MIN).and_utc()
}

fn authority() -> Authority {
    Authority::new("Authority").unwrap()
}

fn made(authority: &Authority, name: &str, until: i32) -> Made {
    authority.sign_until("localhost", name, until).unwrap()
}

/// A certificate until 2030 in its files, and whoever looks at them, in 2027.
struct House {
    authority: Authority,
    files: Files,
    certificate: ServerCertificate,
    watch: CertificateWatch,
    clock: Arc<ManualClock>,
}

impl House {
    fn new() -> Self {
        let authority = authority();
        let files = Files::of(&made(&authority, "first", 2030));
        let certificate = ServerCertificate::open(&files.settings).unwrap();
        let clock = Arc::new(ManualClock::at(day(2027)));
        let watch = CertificateWatch::new(certificate.clone(), clock.clone());
        Self { authority, files, certificate, watch, clock }
    }

    fn look(&mut self) -> Looked {
        self.watch.look(self.clock.now())
    }

    fn in_words(&self) -> String {
        self.certificate.in_words(self.clock.now())
    }
}

#[track_caller]
fn reason(looked: Looked, is_news: bool) -> String {
    match looked {
        Looked::Refused { reason, is_news: found } if found == is_news => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_new_certificate_is_taken_in_when_both_files_are_there() {
    let mut house = House::new();
    assert_eq!(house.look(), Looked::Same);
    let second = made(&house.authority, "second", 2040);

    // Whoever renews writes one after the other.
    write(&house.files.settings.certificate_file, &second.certificate);
    let told = reason(house.look(), true);
    assert!(
        told.starts_with("tls.key_file: ") && told.contains("is not the key of the certificate"),
        "{told}"
    );
    assert_eq!(house.certificate.certificate().name, "CN=first");
    reason(house.look(), false);

    write(&house.files.settings.key_file, &second.key);
    assert_eq!(house.look(), Looked::Taken);
    assert_eq!(house.in_words(), "CN=second holds until 2040-01-01T00:00:00+00:00");
    assert_eq!(house.look(), Looked::Same);
}

#[test]
fn a_certificate_that_cannot_be_used_leaves_the_one_before_in_use_and_is_told_of() {
    let mut house = House::new();
    let first = std::fs::read_to_string(&house.files.settings.certificate_file).unwrap();
    let ended = made(&house.authority, "ended", 2026);
    for (text, words) in [
        ("", "holds no certificate"),
        (&first[..first.len() / 2], "an END line is missing"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "certificate 1 in it cannot be read",
        ),
    ] {
        write(&house.files.settings.certificate_file, text);
        let told = reason(house.look(), true);
        assert!(told.starts_with("tls.certificate_file: ") && told.contains(words), "{told}");
        let shown = house.in_words();
        assert!(shown.starts_with("CN=first holds until 2030-01-01"), "{shown}");
        assert!(shown.contains("; a new one is not taken: ") && shown.contains(words), "{shown}");
    }
    house.files.put(&ended);
    assert!(reason(house.look(), true).contains("ended at 2026-01-01"));
    std::fs::remove_file(&house.files.settings.key_file).unwrap();
    assert!(reason(house.look(), true).starts_with("tls.key_file: cannot read"));
    house.files.put(&made(&house.authority, "mended", 2031));
    assert_eq!(house.look(), Looked::Taken);
    assert_eq!(house.in_words(), "CN=mended holds until 2031-01-01T00:00:00+00:00");
}

#[test]
fn what_goes_back_to_what_is_in_use_is_refused_no_more() {
    let mut house = House::new();
    let first = std::fs::read_to_string(&house.files.settings.key_file).unwrap();
    write(&house.files.settings.key_file, "no key");
    reason(house.look(), true);
    write(&house.files.settings.key_file, &first);
    assert_eq!(house.look(), Looked::Same);
    assert_eq!(house.in_words(), "CN=first holds until 2030-01-01T00:00:00+00:00");
}

#[test]
fn its_end_is_told_before_and_after() {
    let house = House::new();
    house.clock.advance(day(2030) - day(2027) - TimeDelta::days(10));
    assert_eq!(house.in_words(), "CN=first ends in 10 days, at 2030-01-01T00:00:00+00:00");
    house.clock.advance(TimeDelta::days(11));
    let ended = "CN=first ended at 2030-01-01T00:00:00+00:00: callers do not believe it";
    assert_eq!(house.in_words(), ended);
}

#[tokio::test]
async fn its_end_and_what_is_refused_are_figures() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let mut house = House::new();
    let figures = |house: &mut House| {
        metrics::with_local_recorder(&recorder, || {
            let now = house.clock.now();
            house.watch.look(now);
            house.watch.tell_end(now);
        });
        handle.render()
    };
    house.clock.advance(day(2030) - day(2027) - TimeDelta::seconds(90));
    let told = figures(&mut house);
    assert!(told.contains("kite_tls_certificate_ends_in_seconds 90\n"), "{told}");
    assert!(told.contains("kite_tls_certificate_refused 0\n"), "{told}");
    write(&house.files.settings.key_file, "no key");
    let told = figures(&mut house);
    assert!(told.contains("kite_tls_certificate_refused 1\n"), "{told}");
    assert!(told.contains("kite_tls_certificate_changes_total{result=\"refused\"} 1\n"), "{told}");
}

#[test]
fn the_files_are_checked_before_anything_runs() {
    let (authority, now) = (authority(), day(2027));
    let good = made(&authority, "good", 2030);
    let refusal = |files: &Files| format!("{:#}", files.settings.check_files(now).unwrap_err());
    let files = Files::of(&good);
    files.settings.check_files(now).unwrap();
    TlsSettings::default().check_files(now).unwrap();

    write(&files.settings.key_file, &made(&authority, "other", 2030).key);
    let told = refusal(&files);
    assert!(told.starts_with("tls.key_file: ") && told.contains("is not the key"), "{told}");
    files.put(&made(&authority, "ended", 2026));
    let told = refusal(&files);
    assert!(
        told.starts_with("tls.certificate_file: ") && told.contains("CN=ended ended at 2026-01-01"),
        "{told}"
    );
    std::fs::remove_file(&files.settings.certificate_file).unwrap();
    let told = refusal(&files);
    assert!(told.starts_with("tls.certificate_file: cannot read ") && told.contains("chain.pem"), "{told}");

    for (certificate, key, missing) in
        [("a", "", "tls.key_file: is missing"), ("", "a", "tls.certificate_file: is missing")]
    {
        let settings = TlsSettings { certificate_file: certificate.into(), key_file: key.into() };
        let told = settings.check().unwrap_err().to_string();
        assert!(told.starts_with(missing), "{told}");
    }
}

#[test]
fn one_file_may_hold_both() {
    let made = made(&authority(), "both", 2030);
    let files = Files::of(&made);
    let both = TlsSettings {
        certificate_file: files.settings.certificate_file.clone(),
        key_file: files.settings.certificate_file.clone(),
    };
    write(&both.certificate_file, &format!("{}{}", made.key, made.certificate));
    both.check_files(day(2027)).unwrap();
}

#[test]
fn a_certificate_that_has_ended_is_shown_all_the_same_until_there_is_a_better_one() {
    let authority = authority();
    let files = Files::of(&made(&authority, "ended", 2025));
    let certificate = ServerCertificate::open(&files.settings).unwrap();
    files.put(&made(&authority, "ended later", 2026));
    assert_eq!(certificate.look(day(2027)), Looked::Taken);
}
