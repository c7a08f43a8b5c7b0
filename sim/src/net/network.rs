//! Where packets go: realms of addresses, boxes between them, sites with access links, and what lies between two sites.
//!
//! A *realm* is a space of addresses in which everything reaches everything: the internet (realm 0), the network behind a home
//! router, a carrier's inside. A *box* (NAT or firewall) stands between an inside and an outside realm. A *site* is a place in
//! a region with an access link; a home's hosts and its router share one.
//!
//! A packet goes outwards through boxes at the moment it is sent ([`Network::send`]), crosses one lane from site to site, and
//! comes inwards through boxes at the moment it arrives ([`Network::arrive`]): mappings that expire in between are felt.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use hashbrown::HashMap;
use peerwork::{Time, io::Ecn};

use super::{
    link::{Access, Carried, Drops, Lane, LaneModel, PacketMeta, Queue},
    nat::{Behaviour, Inbound, Nat, NatError, NatModel, Outbound},
    region::{Region, Regions},
    weather::Weather,
};
use crate::dice::Dice;

type Hasher = core::hash::BuildHasherDefault<siphasher::sip::SipHasher13>;

/// A space of addresses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RealmId(pub(crate) u32);

impl RealmId {
    /// The public one.
    pub const INTERNET: Self = Self(0);
}

/// A NAT or firewall.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BoxId(pub(crate) u32);

/// A place with an access link.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SiteId(pub(crate) u32);

/// A block of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Block {
    /// Public ones, `45.0.0.0/8`.
    Public,
    /// What carriers use between themselves and their subscribers, `100.64.0.0/10` (RFC 6598).
    Carrier,
}

impl Block {
    fn base_and_bits(self) -> (u32, u32) {
        match self {
            Self::Public => (0x2d00_0000, 24),
            Self::Carrier => (0x6440_0000, 22),
        }
    }
}

/// Who has an address in a realm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owner {
    Host(u32),
    Box(BoxId),
}

#[derive(Default)]
struct Realm {
    owners: HashMap<IpAddr, Owner, Hasher>,
    /// What leads out of it.
    gateway: Option<BoxId>,
}

struct Gate {
    nat: Nat,
    inside: RealmId,
    outside: RealmId,
    site: SiteId,
}

/// A place: where it is, how it is connected, and the state of its link.
struct Site {
    /// Names it in draws, whatever other sites there are.
    label: u64,
    region: Option<Region>,
    access: Access,
    up: Queue,
    down: Queue,
}

/// A host's place in the network.
struct Home {
    realm: RealmId,
    site: SiteId,
    ips: Vec<IpAddr>,
}

/// One packet under way.
#[derive(Clone, Debug)]
pub struct Flight {
    /// The host that sent it, `u32::MAX` if it was forged.
    pub origin: u32,
    /// The site that it left.
    pub from_site: SiteId,
    /// Where it is.
    pub realm: RealmId,
    /// The sender's address as it is seen there.
    pub src: SocketAddr,
    /// Where it goes.
    pub dst: SocketAddr,
    /// Its ECN mark.
    pub ecn: Option<Ecn>,
    /// The site at which its lane ends.
    target: SiteId,
    /// The site whose access link it came through last.
    entered: SiteId,
}

impl Flight {
    /// A packet from nowhere, on the internet.
    pub fn forged(src: SocketAddr, dst: SocketAddr) -> Self {
        let nowhere = SiteId(u32::MAX);
        Self {
            origin: u32::MAX,
            from_site: nowhere,
            realm: RealmId::INTERNET,
            src,
            dst,
            ecn: None,
            target: nowhere,
            entered: nowhere,
        }
    }
}

/// A packet that a host sends.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing {
    /// The host.
    pub host: u32,
    /// Its local endpoint.
    pub src: SocketAddr,
    /// Where it goes.
    pub dst: SocketAddr,
    /// Its ECN mark.
    pub ecn: Option<Ecn>,
    /// Bytes of payload.
    pub len: usize,
}

/// What becomes of a packet at the moment it is sent.
#[expect(clippy::large_enum_variant, reason = "lives on the stack for a moment, and most packets are the large one")]
pub enum Sent {
    /// It goes no further, for this reason.
    Dropped(&'static str),
    /// It crosses a lane.
    Under {
        /// What it is by then: addresses translated.
        flight: Flight,
        /// When copies of it arrive, or why none does.
        carried: Carried,
    },
}

/// What becomes of a packet at the moment it arrives at an address.
pub enum Landed {
    /// It is for this host, and was sent to this address of it.
    Host(u32, Flight),
    /// It has to wait for a link until then.
    Later(Time, Flight),
    /// It goes no further, for this reason.
    Dropped(&'static str),
    /// A box says so to the sender.
    Refused(Flight, &'static str),
}

/// See the [module](self).
pub struct Network {
    realms: Vec<Realm>,
    gates: Vec<Gate>,
    sites: Vec<Site>,
    homes: Vec<Home>,
    lanes: HashMap<(SiteId, SiteId), LaneState, Hasher>,
    regions: Option<Regions>,
    /// Between sites that say nothing else.
    default: LaneModel,
    between: BTreeMap<(SiteId, SiteId), LaneModel>,
    weather: Weather,
    /// Changes whenever a model may have changed.
    epoch: u64,
    /// Which packets are lost.
    drops: Drops,
}

struct LaneState {
    epoch: u64,
    model: LaneModel,
    lane: Lane,
    at: Time,
    ordinal: u32,
}

impl Network {
    /// A network with an internet and nothing on it.
    pub fn new() -> Self {
        Self {
            realms: vec![Realm::default()],
            gates: Vec::new(),
            sites: Vec::new(),
            homes: Vec::new(),
            lanes: HashMap::default(),
            regions: None,
            default: LaneModel::default(),
            between: BTreeMap::new(),
            weather: Weather::default(),
            epoch: 0,
            drops: Drops::Random,
        }
    }

    // --- Building ---

    /// Latencies between regions from now on.
    pub fn set_regions(&mut self, regions: Regions) {
        self.regions = Some(regions);
        self.epoch += 1;
    }

    /// What lies between sites that say nothing else.
    pub fn set_default(&mut self, model: LaneModel) {
        self.default = model;
        self.epoch += 1;
    }

    /// What lies between two hosts' sites, in this direction.
    pub fn set_between(&mut self, from: u32, to: u32, model: LaneModel) {
        let key = (self.homes[from as usize].site, self.homes[to as usize].site);
        self.between.insert(key, model);
        self.epoch += 1;
    }

    /// Which packets are lost: those that the dice say, or these.
    pub fn set_drops(&mut self, drops: Drops) {
        self.drops = drops;
    }

    /// A new place. `label` names it in draws.
    pub fn add_site(&mut self, label: u64, region: Option<Region>, access: Access) -> SiteId {
        let (up, down) = access.queues();
        self.sites.push(Site { label, region, access, up, down });
        SiteId(u32::try_from(self.sites.len() - 1).expect("fewer than 2^32 sites"))
    }

    /// A box on the edge of a realm, with addresses there, and a new realm behind it.
    pub fn add_box(
        &mut self,
        outside: RealmId,
        site: SiteId,
        model: NatModel,
        external: Vec<IpAddr>,
    ) -> Result<(BoxId, RealmId), NatError> {
        let id = BoxId(u32::try_from(self.gates.len()).expect("fewer than 2^32 boxes"));
        let inside = RealmId(u32::try_from(self.realms.len()).expect("fewer than 2^32 realms"));
        // Boxes of one place, behind one another, make their own choices.
        let depth = self.boxes_from(outside).len() as u64;
        let nat = Nat::new(model, external.clone(), self.sites[site.0 as usize].label ^ (depth << 60))?;
        for ip in external {
            self.realms[outside.0 as usize].owners.insert(ip, Owner::Box(id));
        }
        self.realms.push(Realm { gateway: Some(id), ..Realm::default() });
        self.gates.push(Gate { nat, inside, outside, site });
        Ok((id, inside))
    }

    /// The next host's place. Hosts are numbered in the order in which they get one. An address that another host had goes to the new one.
    pub fn add_host(&mut self, realm: RealmId, site: SiteId, ips: Vec<IpAddr>) -> u32 {
        let id = u32::try_from(self.homes.len()).expect("fewer than 2^32 hosts");
        for ip in &ips {
            self.realms[realm.0 as usize].owners.insert(*ip, Owner::Host(id));
        }
        self.homes.push(Home { realm, site, ips });
        id
    }

    /// Moves a host to another place. Its old addresses are nobody's.
    pub fn move_host(&mut self, host: u32, realm: RealmId, site: SiteId, ips: Vec<IpAddr>) {
        let home = &mut self.homes[host as usize];
        let owners = &mut self.realms[home.realm.0 as usize].owners;
        for ip in &home.ips {
            if owners.get(ip) == Some(&Owner::Host(host)) {
                owners.remove(ip);
            }
        }
        for ip in &ips {
            self.realms[realm.0 as usize].owners.insert(*ip, Owner::Host(host));
        }
        *home = Home { realm, site, ips };
    }

    // --- Looking ---

    /// The first address of a realm from a block that nobody has yet. Where the search begins follows from `label`, so that
    /// places keep their addresses when others are left out.
    pub fn free_address(&self, realm: RealmId, block: Block, label: u64) -> IpAddr {
        let (base, bits) = block.base_and_bits();
        let owners = &self.realms[realm.0 as usize].owners;
        let first = label.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - bits);
        for step in 0..1_u64 << bits {
            let host = u32::try_from((first + step) & ((1 << bits) - 1)).unwrap_or(0);
            let ip = IpAddr::V4(Ipv4Addr::from(base + host));
            if !matches!(host & 0xff, 0 | 0xff) && !owners.contains_key(&ip) {
                return ip;
            }
        }
        panic!("all addresses of {block:?} are taken")
    }

    /// The realm behind a box.
    pub fn inside(&self, id: BoxId) -> RealmId {
        self.gates[id.0 as usize].inside
    }

    /// Whether a box stands at the edge of the internet.
    pub fn is_outermost(&self, id: BoxId) -> bool {
        self.gates[id.0 as usize].outside == RealmId::INTERNET
    }

    /// Where a host is found on the internet: its own address, or that of its outermost box.
    pub fn front(&self, host: u32) -> IpAddr {
        let own = self.ips(host)[0];
        self.boxes(host).last().map_or(own, |id| self.nat(*id).external().first().copied().unwrap_or(own))
    }

    /// A host's addresses.
    pub fn ips(&self, host: u32) -> &[IpAddr] {
        &self.homes[host as usize].ips
    }

    /// A host's place.
    pub fn site(&self, host: u32) -> SiteId {
        self.homes[host as usize].site
    }

    /// The realm a host is in.
    pub fn realm(&self, host: u32) -> RealmId {
        self.homes[host as usize].realm
    }

    /// Where a host is.
    pub fn region(&self, host: u32) -> Option<Region> {
        self.sites[self.site(host).0 as usize].region
    }

    /// The boxes between a host and the internet, innermost first.
    pub fn boxes(&self, host: u32) -> Vec<BoxId> {
        self.boxes_from(self.realm(host))
    }

    fn boxes_from(&self, mut realm: RealmId) -> Vec<BoxId> {
        let mut boxes = Vec::new();
        while let Some(gate) = self.realms[realm.0 as usize].gateway {
            boxes.push(gate);
            realm = self.gates[gate.0 as usize].outside;
        }
        boxes
    }

    /// A box's state.
    pub fn nat(&self, id: BoxId) -> &Nat {
        &self.gates[id.0 as usize].nat
    }

    /// A box's state, to change.
    pub fn nat_mut(&mut self, id: BoxId) -> &mut Nat {
        &mut self.gates[id.0 as usize].nat
    }

    /// Restarts a box, with other external addresses if some are given.
    pub fn reboot(&mut self, id: BoxId, now: Time, external: Option<Vec<IpAddr>>) {
        let gate = &mut self.gates[id.0 as usize];
        if let Some(new) = &external {
            let owners = &mut self.realms[gate.outside.0 as usize].owners;
            owners.retain(|_, owner| *owner != Owner::Box(id));
            owners.extend(new.iter().map(|ip| (*ip, Owner::Box(id))));
        }
        gate.nat.reboot(now, external);
    }

    /// Faults that lie on paths at present.
    pub fn weather(&mut self) -> &mut Weather {
        self.epoch += 1;
        &mut self.weather
    }

    /// How what stands before a host looks from outside, its boxes taken together; `None` if nothing gets through.
    pub fn behaviour(&self, host: u32) -> Option<Behaviour> {
        let path: Vec<NatModel> = self.boxes(host).iter().map(|id| self.nat(*id).model().clone()).collect();
        Behaviour::of(&path)
    }

    /// The class of what stands before a host, such as `OPEN` or `EIM/ADF`; see [`Behaviour::class`].
    pub fn class(&self, host: u32) -> &'static str {
        self.behaviour(host).map_or("BLOCKED", Behaviour::class)
    }

    // --- Packets ---

    /// Sends a packet from a host.
    pub fn send(&mut self, dice: &mut Dice, now: Time, packet: Outgoing) -> Sent {
        let Outgoing { host, src, dst, ecn, len } = packet;
        let home = &self.homes[host as usize];
        let mut flight = Flight {
            origin: host,
            from_site: home.site,
            realm: home.realm,
            src,
            dst,
            ecn,
            target: home.site,
            entered: home.site,
        };
        let owner = match self.outwards(dice, now, &mut flight) {
            Ok(owner) => owner,
            Err(cause) => return Sent::Dropped(cause),
        };
        let to_site = match owner {
            Some(Owner::Host(host)) => self.homes[host as usize].site,
            Some(Owner::Box(id)) => self.gates[id.0 as usize].site,
            // Nobody is there. The packet still crosses the sender's own link.
            None => flight.from_site,
        };
        if to_site == flight.from_site {
            // Neighbours: a switch between them, or the sender's own router.
            let cause = owner.is_none().then_some("no-route");
            let carried = cause.map_or_else(|| Carried::arriving(now + Duration::from_micros(300)), Carried::dropped);
            return Sent::Under { flight, carried };
        }
        let carried = self.carry(dice, now, &flight, to_site, len);
        flight.target = to_site;
        Sent::Under { flight, carried }
    }

    /// Takes a packet out through boxes until its destination is in the realm that it is in. Says who has that address.
    fn outwards(&mut self, dice: &mut Dice, now: Time, flight: &mut Flight) -> Result<Option<Owner>, &'static str> {
        loop {
            let realm = &self.realms[flight.realm.0 as usize];
            if let Some(owner) = realm.owners.get(&flight.dst.ip()) {
                return Ok(Some(*owner));
            }
            let Some(id) = realm.gateway else { return Ok(None) };
            let gate = &mut self.gates[id.0 as usize];
            match gate.nat.outbound(now, dice, flight.src, flight.dst) {
                Outbound::Forward { src, dst } => (flight.src, flight.dst, flight.realm) = (src, dst, gate.outside),
                Outbound::Hairpin { src, to } => (flight.src, flight.dst) = (src, to),
                Outbound::Drop(cause) => return Err(cause.name()),
            }
        }
    }

    fn carry(&mut self, dice: &mut Dice, now: Time, flight: &Flight, to: SiteId, len: usize) -> Carried {
        let from = flight.from_site;
        let [source, target] = [from, to].map(|site| &self.sites[site.0 as usize]);
        let labels = (source.label, target.label);
        let epoch = self.epoch;
        let model = || {
            let base = self.between.get(&(from, to)).unwrap_or(&self.default);
            let regions = self.regions.as_ref().zip(source.region.zip(target.region));
            let mut model = base.joining(&source.access, &target.access, regions.map(|(table, (a, b))| (table, a, b)));
            self.weather.apply(from, to, source.region, target.region, &mut model);
            model
        };
        let state = self.lanes.entry((from, to)).or_insert_with(|| LaneState {
            epoch,
            model: model(),
            lane: Lane::default(),
            at: now,
            ordinal: 0,
        });
        if state.epoch != epoch {
            (state.epoch, state.model) = (epoch, model());
        }
        // Names the packet together with the time: draws do not depend on what was sent before.
        state.ordinal = if state.at == now { state.ordinal + 1 } else { 0 };
        state.at = now;
        let packet = PacketMeta {
            from: labels.0,
            to: labels.1,
            now,
            len,
            ipv6: flight.dst.is_ipv6(),
            ecn: flight.ecn,
            ordinal: state.ordinal,
        };
        state.lane.carry(dice, &state.model, &mut self.sites[from.0 as usize].up, &mut self.drops, packet)
    }

    /// A packet reaches the realm and address that it was under way to: through a link, then through boxes inwards.
    pub fn arrive(&mut self, now: Time, mut flight: Flight, len: usize) -> Landed {
        loop {
            let Some(owner) = self.realms[flight.realm.0 as usize].owners.get(&flight.dst.ip()).copied() else {
                return Landed::Dropped("no-route");
            };
            let site = match owner {
                Owner::Host(host) => self.homes[host as usize].site,
                Owner::Box(id) => self.gates[id.0 as usize].site,
            };
            if flight.entered != site {
                let entering = &mut self.sites[site.0 as usize];
                // Behind a carrier's box, the subscriber's line is still to come; otherwise the lane has led through it.
                let last_mile = if flight.target == site { Duration::ZERO } else { entering.access.delay };
                flight.entered = site;
                match entering.down.enqueue(now, len, flight.ecn) {
                    Err(_) => return Landed::Dropped("queue.down"),
                    Ok(passed) => {
                        flight.ecn = passed.ecn;
                        let at = passed.at + last_mile;
                        if at > now {
                            return Landed::Later(at, flight);
                        }
                    }
                }
            }
            match owner {
                Owner::Host(host) => return Landed::Host(host, flight),
                Owner::Box(id) => {
                    let gate = &mut self.gates[id.0 as usize];
                    match gate.nat.inbound(now, flight.src, flight.dst) {
                        Inbound::Deliver { src, to } => {
                            (flight.src, flight.dst, flight.realm) = (src, to, gate.inside);
                        }
                        Inbound::Drop(cause) => return Landed::Dropped(cause.name()),
                        Inbound::Unreachable(cause) => return Landed::Refused(flight, cause.name()),
                    }
                }
            }
        }
    }

    /// Where an outsider would find a local address, as far as boxes hold a mapping for it: what a peer would be told about its own address.
    pub fn seen_from_outside(&self, now: Time, host: u32, local: SocketAddr) -> Option<SocketAddr> {
        self.boxes(host).into_iter().try_fold(local, |address, id| self.nat(id).mapping_of(now, address))
    }

    /// The packets lost at random so far, as keys to lose the same ones again.
    pub fn lost(&self) -> &BTreeSet<crate::net::link::PacketKey> {
        self.drops.lost()
    }
}

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}
