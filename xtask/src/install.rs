use std::process::Command;

use crate::{
    TaskResult,
    run::{find, read, run},
};

/// A program that the system's package manager can install.
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    /// The name of the package, and the managers under which it has another.
    package: &'static str,
    otherwise: &'static [(&'static str, &'static str)],
}

pub(crate) const REDIS: Tool = Tool {
    program: "redis-server",
    package: "redis",
    // Arch has Valkey, whose package contains a program of this name too.
    otherwise: &[("apt-get", "redis-server"), ("pacman", "valkey")],
};

pub(crate) const VALGRIND: Tool = Tool {
    program: "valgrind",
    package: "valgrind",
    otherwise: &[],
};

/// A package manager: the arguments of a command to run first, and those that install a package.
struct Manager {
    program: &'static str,
    before: &'static [&'static str],
    install: &'static [&'static str],
    needs_root: bool,
}

/// The first one that is found is used.
const MANAGERS: [Manager; 6] = [
    Manager {
        program: "apt-get",
        before: &["update"],
        install: &["install", "--yes", "--no-install-recommends"],
        needs_root: true,
    },
    Manager {
        program: "dnf",
        before: &[],
        install: &["install", "--assumeyes"],
        needs_root: true,
    },
    Manager {
        program: "apk",
        before: &[],
        install: &["add", "--no-cache"],
        needs_root: true,
    },
    Manager {
        program: "pacman",
        before: &[],
        install: &["--sync", "--refresh", "--noconfirm"],
        needs_root: true,
    },
    Manager {
        program: "zypper",
        before: &[],
        install: &["--non-interactive", "install"],
        needs_root: true,
    },
    Manager {
        program: "brew",
        before: &[],
        install: &["install"],
        needs_root: false,
    },
];

impl Tool {
    /// Installs the program if it is missing.
    ///
    /// # Errors
    ///
    /// Returns a message with the command to run if it is missing and cannot be installed from here.
    pub(crate) fn ensure(&self) -> TaskResult {
        if find(self.program).is_some() {
            return Ok(());
        }
        let Some(manager) = MANAGERS
            .iter()
            .find(|manager| find(manager.program).is_some())
        else {
            return Err(format!(
                "{} is needed and was not found: install it, so that it is in PATH, and run this again",
                self.program
            ));
        };
        let package = self.package_of(manager);
        if manager.needs_root && !is_root() {
            return Err(format!(
                "{} is needed and was not found: run\n\n    {}\n\nand then this again",
                self.program,
                manager.shown(package)
            ));
        }
        manager.install(package)?;
        match find(self.program) {
            Some(_) => Ok(()),
            None => Err(format!(
                "{package} is installed, but {} is not in PATH: add its folder and run this again",
                self.program
            )),
        }
    }

    fn package_of(&self, manager: &Manager) -> &'static str {
        let named = self
            .otherwise
            .iter()
            .find(|(name, _)| *name == manager.program);
        named.map_or(self.package, |(_, package)| package)
    }
}

impl Manager {
    fn install(&self, package: &str) -> TaskResult {
        if !self.before.is_empty() {
            run(self.command().args(self.before))?;
        }
        run(self.command().args(self.install).arg(package))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.program);
        // Asks no questions, and does not start the server as a service: tests start their own.
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("RUNLEVEL", "1");
        command
    }

    /// Returns the command to show to a user who is not root.
    fn shown(&self, package: &str) -> String {
        let program = self.program;
        let install = self.install.join(" ");
        match self.before {
            [] => format!("sudo {program} {install} {package}"),
            before => format!(
                "sudo {program} {} && sudo {program} {install} {package}",
                before.join(" ")
            ),
        }
    }
}

fn is_root() -> bool {
    read(Command::new("id").arg("-u")).is_ok_and(|(id, _)| id.trim() == "0")
}
