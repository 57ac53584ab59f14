//! Every command that a store on Redis sends, itself or in a script of a layer.

/// A command, and what does not work without it.
#[derive(Clone, Copy, Debug)]
pub(super) struct CommandUse {
    /// Its name in lower case, with `|` before a subcommand, as an access rule has it.
    pub(super) name: &'static str,
    /// The operations that need it, for the documentation and for the text of a finding.
    pub(super) used_by: &'static str,
    pub(super) need: Need,
}

/// The importance of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Something fails without it.
    Required,
    /// Something is not known or comes later without it.
    Optional,
}

const fn required(name: &'static str, used_by: &'static str) -> CommandUse {
    CommandUse {
        name,
        used_by,
        need: Need::Required,
    }
}

const fn optional(name: &'static str, used_by: &'static str) -> CommandUse {
    CommandUse {
        name,
        used_by,
        need: Need::Optional,
    }
}

/// The table of the documentation of [`RedisStore`](crate::RedisStore), in its order.
pub(super) static COMMANDS: [CommandUse; 20] = [
    required("get", "`Get`, `Batch`, all scripts"),
    required("mget", "`GetMany`: every lookup of the cache"),
    required("set", "`Set`, all scripts"),
    required("del", "`Delete`, `DeleteMany`: every purge; locks, limits"),
    required("pexpire", "`Touch`"),
    required("incrby", "`Add`"),
    required("scan", "`Scan`"),
    required("ping", "`Ping`: the circuit breaker"),
    required(
        "evalsha",
        "`Run`: limits, locks; conditional `Set` and `Delete`",
    ),
    required(
        "eval",
        "the same, for the first time on a connection, and in a `Batch`",
    ),
    required("time", "scripts of limits and locks"),
    required("pttl", "scripts of locks; hints of changed keys"),
    required("getrange", "scripts of idempotency records"),
    required("select", "a URL with a database other than 0"),
    optional(
        "hello",
        "RESP3, which hints of changed keys need; Redis 7 always allows it",
    ),
    optional("info", "the version, `incarnation`, most findings"),
    optional("config|get", "the finding about persistence"),
    optional("command|info", "the finding about missing commands"),
    optional("client|tracking", "hints of changed keys"),
    optional("client|caching", "hints of changed keys"),
];

/// The rules of an ACL user for the [required](Need::Required) commands.
pub(super) const REQUIRED_RULES: &str = "+get +mget +set +del +pexpire +incrby +scan +ping +evalsha +eval +time +pttl +getrange +select";
/// Those for the [optional](Need::Optional) ones.
pub(super) const OPTIONAL_RULES: &str =
    "+hello +info +config|get +command|info +client|tracking +client|caching";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn names(need: Need) -> Vec<&'static str> {
        let of_need = COMMANDS.iter().filter(|command| command.need == need);
        of_need.map(|command| command.name).collect()
    }

    #[test]
    fn the_rules_are_those_of_the_table() {
        for (rules, need) in [
            (REQUIRED_RULES, Need::Required),
            (OPTIONAL_RULES, Need::Optional),
        ] {
            let rules: Vec<_> = rules
                .split(' ')
                .map(|rule| rule.strip_prefix('+').unwrap())
                .collect();
            assert_eq!(rules, names(need));
        }
    }

    #[test]
    fn the_documentation_has_the_table() {
        let source = include_str!("mod.rs");
        for command in &COMMANDS {
            let (name, subcommand) = match command.name.split_once('|') {
                None => (command.name.to_uppercase(), String::new()),
                Some((name, sub)) => (name.to_uppercase(), format!(" {}", sub.to_uppercase())),
            };
            let need = match command.need {
                Need::Required => "",
                Need::Optional => " (optional)",
            };
            let line = format!("/// | `{name}{subcommand}` | {}{need} |", command.used_by);
            assert!(source.contains(&line), "write in mod.rs: {line}");
        }
    }

    /// Reads the commands out of the source: the names that are given to `Command::new` and those that scripts call.
    #[test]
    fn the_table_has_each_command_of_the_source_and_no_other() {
        let mut found = BTreeSet::new();
        visit(
            concat!(env!("CARGO_MANIFEST_DIR"), "/src/redis").as_ref(),
            &mut found,
        );
        for layer in ["cache-layer", "lock-layer", "rate-limit-layer"] {
            let folder = format!("{}/../{layer}/src", env!("CARGO_MANIFEST_DIR"));
            visit(folder.as_ref(), &mut found);
        }
        // The greeting has the names of its commands as constants. `AUTH` is always allowed.
        found.extend(["hello", "select"].map(String::from));
        found.remove("auth");
        let table: BTreeSet<_> = COMMANDS
            .iter()
            .map(|command| command.name.split('|').next().unwrap().to_owned())
            .collect();
        assert_eq!(found, table);
    }

    fn visit(folder: &std::path::Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && name != "tests" {
                visit(&path, found);
            } else if name.ends_with(".lua") {
                let text = std::fs::read_to_string(&path).unwrap();
                collect(&text, "call('", '\'', found);
            } else if name.ends_with(".rs") && name != "tests.rs" {
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
                for before in [
                    "Command::new(out, \"",
                    "self.command(\"",
                    "self.eval(\"",
                    "=> (\"EVAL",
                ] {
                    collect(code, before, '"', found);
                }
            }
        }
    }

    fn collect(text: &str, before: &str, after: char, found: &mut BTreeSet<String>) {
        for part in text.split(before).skip(1) {
            let name = part.split(after).next().unwrap();
            let eval = if before.ends_with("EVAL") { "eval" } else { "" };
            found.insert(format!("{eval}{}", name.to_lowercase()));
        }
    }
}
