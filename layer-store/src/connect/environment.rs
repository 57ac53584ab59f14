use std::ffi::OsString;

use super::{
    Options,
    target::{Login, Target},
};
use crate::ConfigError;

/// Reads the environment through `lookup`. `None` if no variable names a store.
pub(super) fn from_env(
    lookup: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<(Target, Options)>, ConfigError> {
    let lookup = &lookup;
    let var = |name: &'static str| variable(lookup, name);
    for name in ["UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN"] {
        if var(name)?.is_some() {
            return Err(ConfigError::new(format!(
                "{name} is set, and Redis over REST is not supported: unset it, and set \
                 REDIS_URL=rediss://default:password@host:6379, which Upstash offers too"
            )));
        }
    }
    let login = Login {
        username: var("REDIS_USERNAME")?,
        password: var("REDIS_PASSWORD")?,
    };
    let target = match (var("REDIS_URL")?, var("REDIS_HOST")?) {
        (Some(url), _) => Target::from_url_and_login(&url, login)?,
        (None, Some(host)) => {
            let port = port(var("REDIS_PORT")?)?;
            Target::redis_at(&host, port, switch(var("REDIS_TLS")?)?, login)?
        }
        (None, None) => {
            for name in NAMES_BESIDE_HOST {
                if var(name)?.is_some() {
                    return Err(ConfigError::new(format!(
                        "{name} is set and REDIS_HOST is not: set REDIS_HOST too, or REDIS_URL instead"
                    )));
                }
            }
            return Ok(None);
        }
    };
    let options = prefix_from_env(lookup)?;
    Ok(Some((target, with_files(options, &var)?)))
}

/// Reads the files that hold certificates and keys.
#[cfg(feature = "redis-tls")]
fn with_files(
    mut options: Options,
    var: &impl Fn(&'static str) -> Result<Option<String>, ConfigError>,
) -> Result<Options, ConfigError> {
    let read = |name| match var(name)? {
        None => Ok(None),
        Some(path) => std::fs::read(path).map(Some).map_err(|error| {
            let what = "names a file that cannot be read: write the path of a PEM file";
            ConfigError::new(format!("{name} {what}")).with_source(error)
        }),
    };
    if let Some(pem) = read(CA_FILE)? {
        options = options.ca_pem(pem);
    }
    match (read(CERT_FILE)?, read(KEY_FILE)?) {
        (None, None) => {}
        (Some(mut pem), key) => {
            pem.push(b'\n');
            pem.extend(key.unwrap_or_default());
            options = options.client_pem(pem);
        }
        (None, Some(_)) => {
            return Err(ConfigError::new(format!(
                "{KEY_FILE} is set and {CERT_FILE} is not: set both"
            )));
        }
    }
    Ok(options)
}

#[cfg(not(feature = "redis-tls"))]
fn with_files(
    options: Options,
    var: &impl Fn(&'static str) -> Result<Option<String>, ConfigError>,
) -> Result<Options, ConfigError> {
    for name in [CA_FILE, CERT_FILE, KEY_FILE] {
        if var(name)?.is_some() {
            return Err(ConfigError::new(format!(
                "{name} is set, and TLS to Redis needs the feature `redis-tls` of the layer crate or of layer-store: write `cargo add <crate> --features redis-tls`, or unset it"
            )));
        }
    }
    Ok(options)
}

pub(super) fn prefix_from_env(
    lookup: &impl Fn(&str) -> Option<OsString>,
) -> Result<Options, ConfigError> {
    Ok(match variable(lookup, "REDIS_KEY_PREFIX")? {
        None => Options::new(),
        Some(prefix) => Options::new().prefix(prefix),
    })
}

fn variable(
    lookup: &impl Fn(&str) -> Option<OsString>,
    name: &str,
) -> Result<Option<String>, ConfigError> {
    match lookup(name).map(OsString::into_string) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        Some(Err(_)) => Err(ConfigError::new(format!(
            "{name} is not UTF-8: write it in UTF-8"
        ))),
    }
}

fn port(text: Option<String>) -> Result<u16, ConfigError> {
    match text.map(|text| text.parse()) {
        None => Ok(6379),
        Some(Ok(port)) => Ok(port),
        Some(Err(_)) => Err(ConfigError::new(
            "REDIS_PORT is not a port: write a number such as 6379",
        )),
    }
}

fn switch(text: Option<String>) -> Result<bool, ConfigError> {
    match text.map(|text| text.to_ascii_lowercase()).as_deref() {
        None | Some("false" | "0" | "no" | "off") => Ok(false),
        Some("true" | "1" | "yes" | "on") => Ok(true),
        Some(_) => Err(ConfigError::new(
            "REDIS_TLS has an unknown value: write `true` or `false`",
        )),
    }
}

const CA_FILE: &str = "REDIS_TLS_CA_FILE";
const CERT_FILE: &str = "REDIS_TLS_CERT_FILE";
const KEY_FILE: &str = "REDIS_TLS_KEY_FILE";
/// The variables that say nothing without `REDIS_HOST`.
const NAMES_BESIDE_HOST: [&str; 4] = [
    "REDIS_PORT",
    "REDIS_USERNAME",
    "REDIS_PASSWORD",
    "REDIS_TLS",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads these variables: a target, nothing, or the text of the error.
    fn env(variables: &[(&str, &str)]) -> Result<Option<(String, Option<String>)>, String> {
        let found = from_env(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, text)| OsString::from(text))
        });
        match found {
            Ok(found) => Ok(found.map(|(target, options)| (format!("{target:?}"), options.prefix))),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn an_empty_environment_names_no_store() {
        assert_eq!(env(&[]), Ok(None));
        let empty = [
            "REDIS_URL",
            "REDIS_HOST",
            "REDIS_PORT",
            "UPSTASH_REDIS_REST_URL",
        ];
        assert_eq!(env(&empty.map(|name| (name, ""))), Ok(None));
        assert_eq!(env(&[("REDIS_KEY_PREFIX", "shop")]), Ok(None));
    }

    #[cfg(feature = "redis")]
    #[test]
    fn the_url_comes_before_the_host() {
        let redis = |address: &str| Ok(Some((format!("Redis({address})"), None)));
        let host = ("REDIS_HOST", "h");
        assert_eq!(
            env(&[("REDIS_URL", "redis://u:7/1"), host]),
            redis("redis://u:7/1")
        );
        assert_eq!(env(&[host]), redis("redis://h:6379/0"));
        assert_eq!(
            env(&[host, ("REDIS_PORT", "7000")]),
            redis("redis://h:7000/0")
        );
        assert_eq!(
            env(&[host, ("REDIS_PASSWORD", "p@:/"), ("REDIS_TLS", "false")]),
            redis("redis://h:6379/0")
        );
        assert_eq!(
            env(&[host, ("REDIS_KEY_PREFIX", "shop")]),
            Ok(Some((
                "Redis(redis://h:6379/0)".into(),
                Some("shop".into())
            )))
        );
        assert_eq!(
            env(&[("REDIS_URL", "memory://"), host]),
            Ok(Some(("Memory".into(), None)))
        );
    }

    #[cfg(feature = "redis-tls")]
    #[test]
    fn tls_is_switched_by_a_variable() {
        for (text, scheme) in [
            ("true", "rediss"),
            ("1", "rediss"),
            ("ON", "rediss"),
            ("no", "redis"),
            ("0", "redis"),
        ] {
            let found = env(&[("REDIS_HOST", "h"), ("REDIS_TLS", text)]);
            assert_eq!(
                found,
                Ok(Some((format!("Redis({scheme}://h:6379/0)"), None)))
            );
        }
    }

    #[cfg(feature = "redis-tls")]
    #[test]
    fn certificates_and_keys_are_read_from_files() {
        let folder = std::env::temp_dir().join(crate::conformance::unique());
        std::fs::create_dir(&folder).unwrap();
        let file = |name: &str| {
            let path = folder.join(name);
            std::fs::write(&path, name).unwrap();
            OsString::from(path)
        };
        let [ca, cert, key] = ["ca", "cert", "key"].map(file);
        let missing = OsString::from(folder.join("missing"));
        let read = |files: &[(&str, &OsString)]| {
            let lookup = |name: &str| match name {
                "REDIS_URL" => Some("rediss://h".into()),
                name => files
                    .iter()
                    .find(|(known, _)| *known == name)
                    .map(|(_, path)| OsString::clone(path)),
            };
            let (_, options) = from_env(lookup)?.unwrap();
            let options = options.checked()?;
            let text = |pem: Option<Vec<u8>>| pem.map(|pem| String::from_utf8(pem).unwrap());
            Ok::<_, ConfigError>((text(options.ca_pem), text(options.client_pem)))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(read(&[]).unwrap(), (None, None));
        assert_eq!(read(&[(CA_FILE, &ca)]).unwrap(), (some("ca"), None));
        let both = [(CERT_FILE, &cert), (KEY_FILE, &key)];
        assert_eq!(read(&both).unwrap(), (None, some("cert\nkey")));
        // One file may hold both.
        assert_eq!(read(&both[..1]).unwrap(), (None, some("cert\n")));
        for (files, said) in [
            (&both[1..], CERT_FILE),
            (&[(CA_FILE, &missing)], CA_FILE),
            (&[(CERT_FILE, &cert), (KEY_FILE, &missing)], KEY_FILE),
        ] {
            let message = read(files).unwrap_err().to_string();
            assert!(message.contains(said), "{message}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[cfg(all(feature = "redis", not(feature = "redis-tls")))]
    #[test]
    fn a_certificate_without_its_feature_is_an_error_that_names_it() {
        let message = env(&[("REDIS_HOST", "h"), (CA_FILE, "/ca.pem")]).unwrap_err();
        assert!(message.contains("`redis-tls`"), "{message}");
    }

    #[test]
    fn a_wrong_environment_is_an_error_that_says_what_to_write() {
        let host = ("REDIS_HOST", "h");
        for (variables, said) in [
            (
                &[("UPSTASH_REDIS_REST_URL", "https://x"), host][..],
                "REDIS_URL=rediss://",
            ),
            (
                &[("UPSTASH_REDIS_REST_TOKEN", "hunter2")],
                "REDIS_URL=rediss://",
            ),
            (&[("REDIS_PORT", "6379")], "REDIS_HOST"),
            (&[("REDIS_PASSWORD", "hunter2")], "REDIS_HOST"),
            (&[host, ("REDIS_PORT", "http")], "such as 6379"),
            (&[host, ("REDIS_PORT", "70000")], "such as 6379"),
            (&[host, ("REDIS_TLS", "maybe")], "`true` or `false`"),
            (
                &[
                    ("REDIS_URL", "redis://:hunter2@h"),
                    ("REDIS_PASSWORD", "hunter2"),
                ],
                "unset REDIS_PASSWORD",
            ),
            (
                &[("REDIS_URL", "memory://"), ("REDIS_PASSWORD", "hunter2")],
                "unset REDIS_PASSWORD",
            ),
            (&[("REDIS_URL", "redis://ada@h")], "REDIS_PASSWORD"),
            (&[host, ("REDIS_USERNAME", "ada")], "REDIS_PASSWORD"),
            (&[("REDIS_USERNAME", "ada")], "REDIS_HOST"),
            (
                &[("REDIS_URL", "memory://"), ("REDIS_USERNAME", "ada")],
                "unset REDIS_USERNAME",
            ),
            (
                &[
                    ("REDIS_URL", "redis://ada:hunter2@h"),
                    ("REDIS_USERNAME", "bob"),
                ],
                "unset REDIS_USERNAME",
            ),
            (&[("REDIS_URL", "hunter2@h")], "`redis://host:6379`"),
            (
                &[("REDIS_URL", "postgres://:hunter2@h")],
                "`redis://host:6379`",
            ),
        ] {
            let message = env(variables).unwrap_err();
            assert!(
                message.contains(said) || message.contains("feature"),
                "{variables:?}: {message}"
            );
            assert!(!message.contains("hunter2"), "{message}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_variable_that_is_not_utf8_is_an_error() {
        use std::os::unix::ffi::OsStringExt;
        let found = from_env(|name| (name == "REDIS_URL").then(|| OsString::from_vec(vec![0xff])));
        assert!(
            found
                .unwrap_err()
                .to_string()
                .contains("REDIS_URL is not UTF-8")
        );
    }

    #[cfg(feature = "redis")]
    #[test]
    fn a_host_that_is_none_is_an_error_and_no_outage() {
        for host in [
            "localhost:6379",
            "redis://:hunter2@h",
            "h/1",
            "a b",
            "[::1",
            "@h",
        ] {
            let message = env(&[("REDIS_HOST", host)]).unwrap_err();
            assert!(message.contains("write a name or an address"), "{message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
        for host in [
            "localhost",
            "redis_1",
            "10.0.0.7",
            "::1",
            "[::1]",
            "cache.internal.",
        ] {
            assert!(env(&[("REDIS_HOST", host)]).is_ok(), "{host}");
        }
    }

    #[cfg(not(feature = "redis"))]
    #[test]
    fn redis_without_its_feature_is_an_error_that_names_it() {
        let by_url = Target::from_url("redis://h").unwrap_err().to_string();
        let by_env = env(&[("REDIS_HOST", "h")]).unwrap_err();
        assert!(by_url.contains("`redis`") && by_env.contains("`redis`"));
    }
}
