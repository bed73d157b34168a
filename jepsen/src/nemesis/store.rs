//! Faults of the object store: an S3 server of this process behind a proxy that can be spoilt. Called through `Nemesis`, and by `run/world`.

use super::{Bite, Nemesis};
use crate::run::world::World;
use holdfast_tests::faulty_http::{Fault, FaultyHttp};
use holdfast_tests::s3::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use std::time::Duration;

/// The store that clients reach at an address of the cluster's network.
pub struct Store {
    host: String,
    proxy: FaultyHttp,
    /// Its objects go with it.
    _server: S3Server,
}

impl Store {
    pub fn start(host: &str) -> Store {
        let server = S3Server::start();
        Store { host: host.to_owned(), proxy: FaultyHttp::start_on(host, server.port(), false), _server: server }
    }

    /// For `holdfast format --storage s3 --bucket`.
    pub fn bucket_url(&self) -> String {
        format!("http://{}:{}/{BUCKET}", self.host, self.proxy.port)
    }

    pub fn env() -> [(&'static str, &'static str); 2] {
        [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Down,
    Slow,
    RepliesLost,
}

impl How {
    fn fault(self) -> Fault {
        match self {
            How::Down => Fault::Reset,
            How::Slow => Fault::Slow(Duration::from_millis(700)),
            How::RepliesLost => Fault::ReplyLost,
        }
    }

    /// Of all requests.
    fn percent(self) -> u32 {
        match self {
            How::Down | How::Slow => 100,
            How::RepliesLost => 50,
        }
    }
}

pub struct Spoil {
    how: How,
    met_before: usize,
}

impl Spoil {
    pub fn of(how: How) -> Spoil {
        Spoil { how, met_before: 0 }
    }
}

impl Nemesis for Spoil {
    fn begin(&mut self, world: &World, dice: &mut StdRng) -> Result<Value, String> {
        let (proxy, fault) = (&world.store().proxy, self.how.fault());
        self.met_before = proxy.count(&fault);
        let (percent, faults) = (self.how.percent(), [fault]);
        proxy.storm(percent, dice.random(), &faults, &faults);
        Ok(json!({"percent": percent}))
    }

    fn look(&mut self, world: &World) -> Bite {
        let met = world.store().proxy.count(&self.how.fault()) - self.met_before;
        Bite { bit: met > 0, evidence: json!({"requests": met}) }
    }

    fn end(&mut self, world: &World) {
        world.store().proxy.heal();
    }
}
