//! A filter: a classic BPF program over `struct seccomp_data` (`linux/seccomp.h`, `net/core/filter.c`).

use std::collections::{BTreeSet, HashSet};

/// The longest program (`BPF_MAXINSNS`).
const MAX_INSTRUCTIONS: usize = 4096;
/// How many steps are made before a program is taken to allow the call. Real filters need a few hundred.
const MAX_STEPS: usize = 1 << 13;

/// How many turning points are told; real filters have a handful for one call.
const MAX_POINTS: usize = 64;

const SCRATCH: usize = 16;
const DATA_BYTES: u32 = 64;

/// A program that the kernel would take as a filter.
#[derive(Debug, PartialEq, Eq)]
pub struct Program(Vec<Instruction>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u16,
    if_true: u8,
    if_false: u8,
    k: u32,
}

/// A system call that a filter is asked about.
#[derive(Clone, Copy)]
pub(super) struct Call {
    /// `AUDIT_ARCH_…`
    pub arch: u32,
    pub number: u32,
    /// None: any.
    pub arguments: Option<[u64; 6]>,
}

impl Call {
    /// The word at an offset of `struct seccomp_data`; none if it may be anything.
    fn word(&self, offset: u32) -> Option<u32> {
        match offset {
            0 => Some(self.number),
            4 => Some(self.arch),
            // The instruction pointer.
            8 | 12 => None,
            _ => {
                let argument = *self.arguments?.get((offset as usize - 16) / 8)?;
                let high = offset % 8 == 4;
                Some(if high { (argument >> 32) as u32 } else { argument as u32 })
            }
        }
    }
}

// Instruction classes, sizes, modes and operations (linux/bpf_common.h).
const LD: u16 = 0x00;
const LDX: u16 = 0x01;
const ST: u16 = 0x02;
const STX: u16 = 0x03;
const ALU: u16 = 0x04;
const JMP: u16 = 0x05;
const RET: u16 = 0x06;
const MISC: u16 = 0x07;
const IMM: u16 = 0x00;
const ABS: u16 = 0x20;
const MEM: u16 = 0x60;
const LEN: u16 = 0x80;
const X: u16 = 0x08;
const ACCUMULATOR: u16 = 0x10;
const TXA: u16 = 0x80;

const RET_LOG: u32 = 0x7ffc_0000;
const RET_ALLOW: u32 = 0x7fff_0000;
const RET_ACTION: u32 = 0xffff_0000;

#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    at: usize,
    a: Option<u32>,
    x: Option<u32>,
    scratch: [Option<u32>; SCRATCH],
}

enum Step {
    Next,
    Jump(usize),
    Either(usize, usize),
    Return(Option<u32>),
}

impl Program {
    /// Decodes an array of `struct sock_filter`, little-endian, if the kernel would take it: known instructions, jumps
    /// within, a return at the end (`bpf_check_classic`, `seccomp_check_filter`).
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (chunks, rest) = bytes.as_chunks::<8>();
        if !rest.is_empty() || chunks.len() > MAX_INSTRUCTIONS {
            return None;
        }
        let instructions: Vec<Instruction> = chunks
            .iter()
            .map(|[c0, c1, if_true, if_false, k @ ..]| Instruction {
                code: u16::from_le_bytes([*c0, *c1]),
                if_true: *if_true,
                if_false: *if_false,
                k: u32::from_le_bytes(*k),
            })
            .collect();
        let ends = instructions.last().is_some_and(|last| last.code & 7 == RET);
        let sound =
            instructions.iter().enumerate().all(|(at, one)| one.is_sound(instructions.len() - at - 1));
        (ends && sound).then_some(Self(instructions))
    }

    /// Whether the program can come to let the call through (allow, or allow and log), whatever isn't known of it.
    pub(super) fn may_allow(&self, call: &Call) -> bool {
        self.walk(call, |_| {})
    }

    /// The numbers that the program holds unknown arguments of the call against.
    pub(super) fn turning_points(&self, call: &Call) -> BTreeSet<u32> {
        let mut points = BTreeSet::new();
        self.walk(call, |point| {
            if points.len() < MAX_POINTS {
                points.insert(point);
            }
        });
        points
    }

    /// Walks all ways through the program that what is known of the call leaves open: does one let it through?
    fn walk(&self, call: &Call, mut on_unknown: impl FnMut(u32)) -> bool {
        let start = State { at: 0, a: Some(0), x: Some(0), scratch: [Some(0); SCRATCH] };
        let mut todo = vec![start];
        let mut seen = HashSet::new();
        let mut steps = 0;
        let mut allows = false;
        while let Some(mut state) = todo.pop() {
            while let Some(instruction) = self.0.get(state.at) {
                steps += 1;
                if steps > MAX_STEPS {
                    return true;
                }
                if state.a.is_none() && matches!(instruction.code & 7, ALU | JMP) {
                    on_unknown(instruction.k);
                }
                match instruction.step(&mut state, call) {
                    Step::Next => state.at += 1,
                    Step::Jump(by) => state.at += 1 + by,
                    Step::Return(value) => {
                        allows |= value.is_none_or(|value| matches!(value & RET_ACTION, RET_LOG | RET_ALLOW));
                        break;
                    }
                    Step::Either(one, other) => {
                        let other = State { at: state.at + 1 + other, ..state.clone() };
                        if seen.insert(other.clone()) {
                            todo.push(other);
                        }
                        state.at += 1 + one;
                    }
                }
            }
        }
        allows
    }
}

impl Instruction {
    fn is_sound(self, left: usize) -> bool {
        let (class, k) = (self.code & 7, self.k);
        match class {
            LD | LDX => match self.code & 0xf8 {
                IMM | LEN => true,
                MEM => k < SCRATCH as u32,
                ABS => class == LD && k.is_multiple_of(4) && k < DATA_BYTES,
                _ => false,
            },
            ST | STX => self.code & 0xf8 == 0 && k < SCRATCH as u32,
            ALU => match (self.code & 0xf0, self.code & X) {
                (0x30, 0) => k != 0,
                (0x60 | 0x70, 0) => k < 32,
                // The modulo is the one that the kernel doesn't take from filters.
                (0x00..=0x80, _) => true,
                (0xa0, _) => true,
                _ => false,
            },
            JMP => match self.code & 0xf0 {
                0x00 => (k as usize) < left,
                0x10..=0x40 => usize::from(self.if_true.max(self.if_false)) < left,
                _ => false,
            },
            RET => matches!(self.code & 0xf8, 0 | ACCUMULATOR),
            _ => matches!(self.code & 0xf8, 0 | TXA),
        }
    }

    /// One step, by the operands as far as they are known.
    fn step(self, state: &mut State, call: &Call) -> Step {
        let Self { code, k, .. } = self;
        let slot = k as usize % SCRATCH;
        let loaded = || match code & 0xf8 {
            ABS => call.word(k),
            MEM => state.scratch[slot],
            LEN => Some(DATA_BYTES),
            _ => Some(k),
        };
        let operand = if code & X == 0 { Some(k) } else { state.x };
        match code & 7 {
            LD => state.a = loaded(),
            LDX => state.x = loaded(),
            ST => state.scratch[slot] = state.a,
            STX => state.scratch[slot] = state.x,
            ALU => match state.a.zip(operand) {
                Some((a, operand)) => match compute(code & 0xf0, a, operand) {
                    Some(value) => state.a = Some(value),
                    // The kernel ends a program that divides by zero with 0: kill.
                    None => return Step::Return(Some(0)),
                },
                None => state.a = None,
            },
            JMP if code & 0xf0 == 0 => return Step::Jump(k as usize),
            JMP => {
                let (yes, no) = (usize::from(self.if_true), usize::from(self.if_false));
                return match state.a.zip(operand) {
                    Some((a, operand)) if holds(code & 0xf0, a, operand) => Step::Jump(yes),
                    Some(_) => Step::Jump(no),
                    None => Step::Either(yes, no),
                };
            }
            RET => return Step::Return(if code & 0xf8 == ACCUMULATOR { state.a } else { Some(k) }),
            MISC if code & TXA != 0 => state.a = state.x,
            _ => state.x = state.a,
        }
        Step::Next
    }
}

fn compute(operation: u16, a: u32, b: u32) -> Option<u32> {
    Some(match operation {
        0x00 => a.wrapping_add(b),
        0x10 => a.wrapping_sub(b),
        0x20 => a.wrapping_mul(b),
        0x30 => a.checked_div(b)?,
        0x40 => a | b,
        0x50 => a & b,
        0x60 => a.wrapping_shl(b),
        0x70 => a.wrapping_shr(b),
        0xa0 => a ^ b,
        _ => a.wrapping_neg(),
    })
}

fn holds(operation: u16, a: u32, b: u32) -> bool {
    match operation {
        0x10 => a == b,
        0x20 => a > b,
        0x30 => a >= b,
        _ => a & b != 0,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    const RET_ERRNO: u32 = 0x0005_0001;
    const X86_64: u32 = 0xc000_003e;

    fn program(instructions: &[(u16, u8, u8, u32)]) -> Vec<u8> {
        let bytes = |&(code, yes, no, k): &(u16, u8, u8, u32)| {
            let [c0, c1] = code.to_le_bytes();
            let [k0, k1, k2, k3] = u32::to_le_bytes(k);
            [c0, c1, yes, no, k0, k1, k2, k3]
        };
        instructions.iter().flat_map(bytes).collect()
    }

    /// A filter that allows these numbers of x86-64 and no other call.
    pub fn filter(numbers: &[u32]) -> Program {
        let mut code = vec![(0x20, 0, 0, 4), (0x15, 1, 0, X86_64), (0x06, 0, 0, RET_ERRNO), (0x20, 0, 0, 0)];
        for number in numbers {
            code.extend([(0x15, 0, 1, *number), (0x06, 0, 0, RET_ALLOW)]);
        }
        code.push((0x06, 0, 0, RET_ERRNO));
        Program::decode(&program(&code)).unwrap()
    }

    /// A filter that allows one number if its first argument has this value.
    pub fn allow_if_argument_is(number: u32, value: u32) -> Program {
        let code = [
            (0x20, 0, 0, 4),
            (0x15, 0, 7, X86_64),
            (0x20, 0, 0, 0),
            (0x15, 0, 5, number),
            (0x20, 0, 0, 20),
            (0x15, 0, 3, 0),
            (0x20, 0, 0, 16),
            (0x15, 0, 1, value),
            (0x06, 0, 0, RET_ALLOW),
            (0x06, 0, 0, RET_ERRNO),
        ];
        Program::decode(&program(&code)).unwrap()
    }

    fn call(number: u32, arguments: Option<[u64; 6]>) -> Call {
        Call { arch: X86_64, number, arguments }
    }

    #[test]
    fn arguments_decide_where_they_are_known() {
        let filter = allow_if_argument_is(1, 8);
        assert!(filter.may_allow(&call(1, None)));
        assert!(filter.may_allow(&call(1, Some([8, 0, 0, 0, 0, 0]))));
        assert!(!filter.may_allow(&call(1, Some([1 << 32 | 8, 0, 0, 0, 0, 0]))));
        assert!(!filter.may_allow(&call(2, None)));
    }

    #[test]
    fn arithmetic_is_the_kernels() {
        // a = nr * 3 - 1; x = a; m[2] = x; a = m[2] ^ x (0); a |= 0x7fff << 16; return a
        let code = [
            (0x20, 0, 0, 0),
            (0x24, 0, 0, 3),
            (0x14, 0, 0, 1),
            (0x07, 0, 0, 0),
            (0x03, 0, 0, 2),
            (0x60, 0, 0, 2),
            (0xac, 0, 0, 0),
            (0x44, 0, 0, RET_ALLOW),
            (0x16, 0, 0, 0),
        ];
        assert!(Program::decode(&program(&code)).unwrap().may_allow(&call(7, None)));
    }

    #[test]
    fn what_the_kernel_refuses_is_refused() {
        for bad in [
            &[][..],
            &[(0x20, 0, 0, 0)],
            &[(0x20, 0, 0, 2), (0x06, 0, 0, 0)],
            &[(0x20, 0, 0, 64), (0x06, 0, 0, 0)],
            &[(0x15, 1, 0, 0), (0x06, 0, 0, 0)],
            &[(0x05, 0, 0, u32::MAX), (0x06, 0, 0, 0)],
            &[(0x34, 0, 0, 0), (0x06, 0, 0, 0)],
            &[(0x02, 0, 0, 16), (0x06, 0, 0, 0)],
            &[(0x28, 0, 0, 0), (0x06, 0, 0, 0)],
        ] {
            assert_eq!(Program::decode(&program(bad)), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_program_is_refused_or_comes_to_an_end(
            code in proptest::collection::vec((0_u16..0x100, 0_u8..4, 0_u8..4, 0_u32..70), 0..20),
            number: u32,
        ) {
            let mut code = code;
            code.push((0x06, 0, 0, RET_ERRNO));
            if let Some(program) = Program::decode(&program(&code)) {
                program.may_allow(&call(number, None));
            }
        }
    }
}
