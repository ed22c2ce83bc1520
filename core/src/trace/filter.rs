//! A filter for the kernel that lets packets with the mark pass, and nothing else.
//!
//! It is a program of the classic Berkeley packet filter (Documentation/networking/filter.rst), run
//! on every packet of the host while a trace is watched; what it rejects costs a copy to nobody.
//! Packets begin with the header of IP, as a packet socket of the type `SOCK_DGRAM` has them.

/// One instruction: `struct sock_filter` of linux/filter.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What it does.
    pub code: u16,
    /// How many instructions are passed over when the condition holds.
    pub jt: u8,
    /// How many when it does not.
    pub jf: u8,
    /// Its operand.
    pub k: u32,
}

/// `BPF_LD | BPF_W | BPF_ABS`: loads 4 octets of the packet; ends with "reject" beyond its end.
const LOAD: u16 = 0x20;
/// `BPF_JMP | BPF_JEQ | BPF_K`: compares what was loaded.
const EQUAL: u16 = 0x15;
/// `BPF_RET | BPF_K`: ends; so many octets of the packet are kept.
const RETURN: u16 = 0x06;

/// As much of a packet as is ever looked at.
const KEPT: u32 = 512;

/// Where the mark can be, in octets from the header of IP, lowest first: behind IP (20 or 40
/// octets) and ICMP (8), and with a tunnel behind IP, UDP, VXLAN and Ethernet (8 + 8 + 14) before
/// that. Packets of a trace have no options. The order matters: looking beyond the end of a packet
/// rejects it.
const OFFSETS: [u32; 5] = [20 + 8, 40 + 8, 20 + 30 + 20 + 8, 20 + 30 + 40 + 8, 40 + 30 + 40 + 8];

/// The filter for a mark.
pub fn program(token: u64) -> Vec<Instruction> {
    // Both halves fit.
    let (high, low) = ((token >> 32) as u32, token as u32);
    let mut program = Vec::with_capacity(OFFSETS.len() * 5 + 1);
    for offset in OFFSETS {
        program.extend([
            Instruction { code: LOAD, jt: 0, jf: 0, k: offset },
            Instruction { code: EQUAL, jt: 0, jf: 3, k: high },
            Instruction { code: LOAD, jt: 0, jf: 0, k: offset + 4 },
            Instruction { code: EQUAL, jt: 0, jf: 1, k: low },
            Instruction { code: RETURN, jt: 0, jf: 0, k: KEPT },
        ]);
    }
    program.push(Instruction { code: RETURN, jt: 0, jf: 0, k: 0 });
    program
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sight::tests::{TOKEN, request, tunnelled};
    use super::*;

    /// What the kernel does with a packet: how much of it is kept.
    fn run(program: &[Instruction], packet: &[u8]) -> u32 {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let Instruction { code, jt, jf, k } = program[at];
            at += 1;
            match code {
                RETURN => return k,
                EQUAL => at += usize::from(if loaded == k { jt } else { jf }),
                LOAD => match packet.get(k as usize..).and_then(|rest| rest.first_chunk()) {
                    Some(octets) => loaded = u32::from_be_bytes(*octets),
                    None => return 0,
                },
                _ => panic!("no such instruction"),
            }
        }
    }

    #[test]
    fn the_mark_passes_wherever_it_can_be() {
        let program = program(TOKEN);
        for inner in [false, true] {
            let plain = request(inner, TOKEN);
            for packet in [plain.clone(), tunnelled(false, 1, &plain), tunnelled(true, 1, &plain)] {
                assert_eq!(run(&program, &packet), KEPT, "{packet:?}");
            }
            let other = request(inner, TOKEN ^ 1);
            for packet in [other.clone(), tunnelled(false, 1, &other), tunnelled(true, 1, &other)] {
                assert_eq!(run(&program, &packet), 0, "{packet:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_else_passes(noise in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(run(&program(TOKEN), &noise), 0);
        }
    }
}
