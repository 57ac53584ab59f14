use std::{fmt, thread, time::Duration};

use crate::{FaultProxy, Mode, RedisServer};

/// A Redis as production has it: behind an address that stays, with an append-only file, and with faults.
///
/// Clients reach it through a [`FaultProxy`], which leads them to another server after a failover.
pub struct RedisSite {
    proxy: FaultProxy,
    server: RedisServer,
}

/// A fault of a [`RedisSite`]. Each leaves a server that works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SiteFault {
    /// SIGKILL, and a restart with everything that it had confirmed.
    KillWithLog,
    /// SIGKILL, and a restart without data.
    KillEmpty,
    /// A replica is promoted that has not heard of the last 100 ms.
    Failover,
    /// SIGSTOP for this time.
    Pause(Duration),
    /// Everything that has an end is evicted.
    Evict,
    /// FLUSHALL.
    Flush,
    /// CLIENT KILL and SCRIPT FLUSH, five times in half a second.
    Disconnect,
    /// CLIENT PAUSE for 700 ms, which is longer than a call may take.
    PauseClients,
    /// Replies are lost for 300 ms, and the commands are not.
    DropReplies,
}

impl RedisSite {
    /// Starts one.
    ///
    /// # Panics
    ///
    /// Panics where [`RedisServer::start`] does.
    pub fn start() -> Self {
        let server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
        Self {
            proxy: FaultProxy::before(&server),
            server,
        }
    }

    /// Returns the URL for `connect`.
    pub fn url(&self) -> String {
        self.server.url_through(&self.proxy)
    }

    /// Returns the server that clients reach now.
    pub fn server(&self) -> &RedisServer {
        &self.server
    }

    /// Suffers a fault, and returns when its cause is over. Clients may need some time more to come back.
    ///
    /// # Panics
    ///
    /// Panics if a server does not do what it is told.
    pub fn suffer(&mut self, fault: SiteFault) {
        match fault {
            SiteFault::KillWithLog => self.server.restart_with_data(),
            SiteFault::KillEmpty => self.server.restart(),
            SiteFault::Failover => {
                let replica = self.promoted_replica();
                thread::sleep(Duration::from_millis(100));
                self.fail_over_to(replica);
            }
            SiteFault::Pause(time) => {
                self.server.pause();
                thread::sleep(time);
                self.server.resume();
            }
            SiteFault::Evict => self.server.evict_all(),
            SiteFault::Flush => self.server.command(&["FLUSHALL"]),
            SiteFault::Disconnect => {
                for _ in 0..5 {
                    let _: u64 = self.server.command(&["CLIENT", "KILL", "TYPE", "normal"]);
                    let () = self.server.command(&["SCRIPT", "FLUSH"]);
                    thread::sleep(Duration::from_millis(100));
                }
            }
            SiteFault::PauseClients => {
                let () = self.server.command(&["CLIENT", "PAUSE", "700"]);
                thread::sleep(Duration::from_millis(700));
            }
            SiteFault::DropReplies => {
                self.proxy.set(Mode::DropReplies);
                thread::sleep(Duration::from_millis(300));
                self.proxy.set(Mode::Pass);
            }
        }
    }

    /// Starts a replica, and promotes it when it has everything: from here on it hears nothing more, while clients still write to
    /// the old primary.
    ///
    /// # Panics
    ///
    /// Panics where [`RedisServer::start_replica_of`] does.
    pub fn promoted_replica(&self) -> RedisServer {
        let mut replica = RedisServer::start_replica_of(&self.server);
        replica.promote();
        replica
    }

    /// Leads all clients to another server, and ends the one that they had.
    pub fn fail_over_to(&mut self, server: RedisServer) {
        self.proxy.lead_to(&server);
        self.server = server;
    }
}

impl fmt::Debug for RedisSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSite")
            .field("proxy", &self.proxy)
            .field("server", &self.server)
            .finish()
    }
}
