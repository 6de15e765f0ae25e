//! Which addresses a bundle endpoint may have. Invariant: judged is the address that is connected to, after its name was resolved, so that
//! a name that leads to this machine leads nowhere (T-18).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Networks that may be asked although by default nobody there is.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct DangerNetworks(Vec<Network>);

/// An address and how many of its bits count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Network {
    address: IpAddr,
    bits: u8,
}

impl DangerNetworks {
    /// Reads networks such as `127.0.0.0/8` or `fe80::/10`.
    ///
    /// # Errors
    /// The first that is none.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let read = |text: &str| text.parse::<Network>().map_err(|()| text.to_owned());
        texts.into_iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Whether this address may be asked. Private networks may: plants are made of them.
    pub(crate) fn permit(&self, address: IpAddr) -> bool {
        let address = plain(address);
        !is_special(address) || self.0.iter().any(|network| network.contains(address))
    }
}

impl FromStr for Network {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, bits) = text.split_once('/').ok_or(())?;
        let address: IpAddr = address.parse().map_err(drop)?;
        let bits: u8 = bits.parse().map_err(drop)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        (bits <= most).then_some(Self { address, bits }).ok_or(())
    }
}

impl Network {
    fn contains(self, address: IpAddr) -> bool {
        let (ours, theirs, width) = match (self.address, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
            _ => return false,
        };
        // All bits shifted away: everything is contained.
        let differing = (ours ^ theirs)
            .checked_shr(width - u32::from(self.bits))
            .unwrap_or(0);
        differing == 0
    }
}

/// An IPv4 address that an IPv6 one stands for (mapped, or through NAT64) is judged as what it is.
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
            let [.., a, b, c, d] = v6.octets();
            Ipv4Addr::new(a, b, c, d).into()
        }
        _ => address,
    }
}

/// Loopback, link-local, multicast, unspecified and their like: never another site.
fn is_special(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.octets()[0] == 0
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.octets()[0] >= 240
        }
        IpAddr::V6(v6) => is_special_v6(v6),
    }
}

fn is_special_v6(v6: Ipv6Addr) -> bool {
    // `::/96`, which has also the unspecified address and the loopback: IPv4-compatible addresses are long obsolete.
    let obsolete = v6.segments()[..6] == [0; 6];
    obsolete || v6.is_multicast() || v6.segments()[0] & 0xffc0 == 0xfe80
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_and_its_link_are_refused_and_plants_are_not() {
        let nobody = DangerNetworks::default();
        let permit = |text: &str| nobody.permit(text.parse().unwrap());
        for text in [
            "127.0.0.1",
            "127.255.0.3",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "fe80::1",
            "febf::1",
            "ff02::1",
        ] {
            assert!(!permit(text), "{text}");
        }
        for text in [
            "10.0.0.1",
            "172.16.3.4",
            "192.168.1.1",
            "100.64.0.1",
            "203.0.113.9",
            "::ffff:10.0.0.1",
            "fd00::1",
            "fec0::1",
            "2001:db8::1",
        ] {
            assert!(permit(text), "{text}");
        }
    }

    #[test]
    fn a_named_network_is_permitted_to_the_bit() {
        let networks = DangerNetworks::parse(["127.0.0.0/30", "fe80::/10", "::1/128"]).unwrap();
        let permit = |text: &str| networks.permit(text.parse().unwrap());
        assert!(permit("127.0.0.3") && permit("::ffff:127.0.0.1") && permit("fe80::1") && permit("::1"));
        assert!(!permit("127.0.0.4") && !permit("ff02::1") && !permit("::") && !permit("169.254.0.1"));
        let all = DangerNetworks::parse(["0.0.0.0/0", "::/0"]).unwrap();
        assert!(all.permit("127.0.0.1".parse().unwrap()) && all.permit("::1".parse().unwrap()));
        for text in [
            "127.0.0.1",
            "127.0.0.0/33",
            "::/129",
            "here/8",
            "127.0.0.0/-1",
            "",
        ] {
            assert_eq!(DangerNetworks::parse(["10.0.0.0/8", text]), Err(text.to_owned()));
        }
    }
}
