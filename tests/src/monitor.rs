use std::fmt;

use layer_store::conformance::unique;

use crate::RedisServer;

/// Records the commands that clients send to a server.
pub struct Monitor(redis::Connection);

impl Monitor {
    pub(crate) fn start(mut connection: redis::Connection) -> Self {
        let _: () = redis::cmd("MONITOR")
            .query(&mut connection)
            .expect("a server that runs can be monitored");
        Self(connection)
    }

    /// Returns the commands since the last call, in order, such as `"GET" "{ada}:data:visits"`. Leaves out those inside
    /// scripts and its own.
    ///
    /// # Panics
    ///
    /// Panics if `server` is another one, or does not answer within 5 s.
    pub fn commands(&mut self, server: &RedisServer) -> Vec<String> {
        let marker = unique();
        let _: String = server.command(&["ECHO", &marker]);
        let mut seen: Vec<String> = Vec::new();
        loop {
            let line = self.line();
            if line.contains(&marker) {
                let own = sender(&line).to_owned();
                seen.retain(|line| !matches!(sender(line), "lua") && sender(line) != own);
                return seen.iter().map(|line| command(line).to_owned()).collect();
            }
            seen.push(line);
        }
    }

    /// Returns the first words of those commands, in lower case.
    ///
    /// # Panics
    ///
    /// Panics where [`commands`](Self::commands) does.
    pub fn names(&mut self, server: &RedisServer) -> Vec<String> {
        let commands = self.commands(server);
        commands
            .iter()
            .filter_map(|command| command.split('"').nth(1))
            .map(str::to_lowercase)
            .collect()
    }

    fn line(&mut self) -> String {
        let value = self.0.recv_response();
        let value = value.expect("a monitored server writes down what it is sent");
        redis::from_redis_value(value).expect("a monitor's line is a status")
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").finish_non_exhaustive()
    }
}

/// Returns the address in `1339518083.107412 [0 127.0.0.1:60866] "keys" "*"`, or `lua`.
fn sender(line: &str) -> &str {
    let inside = line
        .split_once("[0 ")
        .and_then(|(_, rest)| rest.split_once(']'));
    inside.map_or("", |(sender, _)| sender)
}

fn command(line: &str) -> &str {
    line.split_once("] ").map_or(line, |(_, command)| command)
}
