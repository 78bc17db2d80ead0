//! Classic BPF (linux/filter.h) from resolved rules: a balanced tree of comparisons over call numbers, so that a call
//! costs about ten instructions however long the profile. The kernel runs a filter once for every number when it is
//! loaded, so its shape decides how long that takes.

use oci_spec::runtime::LinuxSeccompOperator as Operator;

use super::rules::{Comparison, Conditional, Machine, Outcome};

/// `BPF_MAXINSNS`.
const MAX_INSTRUCTIONS: usize = 4096;

// Opcodes of linux/bpf_common.h, composed.
const LOAD: u16 = 0x20; // LD | W | ABS
const AND: u16 = 0x54; // ALU | AND | K
const JUMP: u16 = 0x05; // JMP | JA
const JUMP_EQUAL: u16 = 0x15; // JMP | JEQ | K
const JUMP_GREATER: u16 = 0x25; // JMP | JGT | K
const JUMP_GREATER_EQUAL: u16 = 0x35; // JMP | JGE | K
const RETURN: u16 = 0x06; // RET | K

// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u16,
    pub(super) jump_true: u8,
    pub(super) jump_false: u8,
    pub(super) operand: u32,
}

impl Instruction {
    fn plain(code: u16, operand: u32) -> Instruction {
        Instruction { code, jump_true: 0, jump_false: 0, operand }
    }

    fn branch(code: u16, operand: u32, jump_true: u8, jump_false: u8) -> Instruction {
        Instruction { code, jump_true, jump_false, operand }
    }

    pub(super) fn to_bytes(self) -> [u8; 8] {
        let [c0, c1] = self.code.to_ne_bytes();
        let [k0, k1, k2, k3] = self.operand.to_ne_bytes();
        [c0, c1, self.jump_true, self.jump_false, k0, k1, k2, k3]
    }
}

pub(super) fn assemble(machine: &Machine) -> Result<Vec<Instruction>, String> {
    let mut program = vec![Instruction::plain(LOAD, ARCHITECTURE)];
    for architecture in &machine.architectures {
        let tree = tree(&architecture.ranges)?;
        program.push(Instruction::branch(JUMP_EQUAL, architecture.audit_arch, 1, 0));
        program.push(Instruction::plain(JUMP, length(tree.len() + 1)));
        program.push(Instruction::plain(LOAD, NUMBER));
        program.extend(tree);
    }
    program.push(Instruction::plain(RETURN, machine.otherwise));
    if program.len() > MAX_INSTRUCTIONS {
        let needed = program.len();
        return Err(format!(
            "seccomp profile is too large: {needed} instructions, the kernel takes {MAX_INSTRUCTIONS}"
        ));
    }
    Ok(program)
}

/// Programs are bounded, so every distance fits.
fn length(instructions: usize) -> u32 {
    u32::try_from(instructions).unwrap_or(u32::MAX)
}

/// Expects the call number in the accumulator; every path ends in a return.
fn tree(ranges: &[(u32, Outcome)]) -> Result<Vec<Instruction>, String> {
    match ranges {
        [] => Err("seccomp rules cover no call".to_owned()),
        [(_, Outcome::Return(verdict))] => Ok(vec![Instruction::plain(RETURN, *verdict)]),
        [(_, Outcome::Test(tests, otherwise))] => test(tests, *otherwise),
        _ => {
            if let Some(block) = Block::of(ranges)?.link() {
                return Ok(block);
            }
            let (low, high) = ranges.split_at(ranges.len() / 2);
            let pivot = high[0].0;
            let (low, high) = (tree(low)?, tree(high)?);
            let mut program = match u8::try_from(low.len()) {
                Ok(distance) => vec![Instruction::branch(JUMP_GREATER_EQUAL, pivot, distance, 0)],
                // Conditional jumps reach 255 instructions.
                Err(_) => vec![
                    Instruction::branch(JUMP_GREATER_EQUAL, pivot, 0, 1),
                    Instruction::plain(JUMP, length(low.len())),
                ],
            };
            program.extend(low);
            program.extend(high);
            Ok(program)
        }
    }
}

/// A tree whose leaves share their ends: one comparison for each range but the first, and each verdict once. The shorter
/// a program is, the sooner the kernel has translated it, which every start of a process waits for.
#[derive(Default)]
struct Block<'r> {
    nodes: Vec<Node>,
    verdicts: Vec<u32>,
    tests: Vec<(&'r Outcome, Vec<Instruction>)>,
}

struct Node {
    pivot: u32,
    below: End,
    at_or_above: End,
}

/// Where a comparison leads: an index into the block's lists.
#[derive(Clone, Copy)]
enum End {
    Node(usize),
    Verdict(usize),
    Test(usize),
}

impl<'r> Block<'r> {
    fn of(ranges: &'r [(u32, Outcome)]) -> Result<Block<'r>, String> {
        let mut block = Block::default();
        block.add(ranges)?;
        Ok(block)
    }

    /// A node comes right before what is below it.
    fn add(&mut self, ranges: &'r [(u32, Outcome)]) -> Result<End, String> {
        let (low, high) = match ranges {
            [(_, outcome)] => return self.leaf(outcome),
            _ => ranges.split_at(ranges.len() / 2),
        };
        let at = self.nodes.len();
        self.nodes.push(Node { pivot: high[0].0, below: End::Node(at), at_or_above: End::Node(at) });
        self.nodes[at].below = self.add(low)?;
        self.nodes[at].at_or_above = self.add(high)?;
        Ok(End::Node(at))
    }

    fn leaf(&mut self, outcome: &'r Outcome) -> Result<End, String> {
        Ok(match outcome {
            Outcome::Return(verdict) => {
                End::Verdict(place(&mut self.verdicts, |known| known == verdict, || Ok(*verdict))?)
            }
            Outcome::Test(tests, otherwise) => {
                let made = || Ok((outcome, test(tests, *otherwise)?));
                End::Test(place(&mut self.tests, |(known, _)| *known == outcome, made)?)
            }
        })
    }

    /// The program, if it is so short that every conditional jump reaches its end.
    fn link(&self) -> Option<Vec<Instruction>> {
        let first_verdict = self.nodes.len();
        let position = |end: End| match end {
            End::Node(at) => at,
            End::Verdict(at) => first_verdict + at,
            End::Test(at) => {
                let before: usize = self.tests[..at].iter().map(|(_, code)| code.len()).sum();
                first_verdict + self.verdicts.len() + before
            }
        };
        let distance = |from: usize, end: End| u8::try_from(position(end) - from - 1).ok();
        let mut program = Vec::new();
        for (at, node) in self.nodes.iter().enumerate() {
            let (above, below) = (distance(at, node.at_or_above)?, distance(at, node.below)?);
            program.push(Instruction::branch(JUMP_GREATER_EQUAL, node.pivot, above, below));
        }
        program.extend(self.verdicts.iter().map(|verdict| Instruction::plain(RETURN, *verdict)));
        program.extend(self.tests.iter().flat_map(|(_, code)| code));
        Some(program)
    }
}

/// The index of an element, which is made if it is not there.
fn place<T>(
    list: &mut Vec<T>,
    is_it: impl Fn(&T) -> bool,
    make: impl FnOnce() -> Result<T, String>,
) -> Result<usize, String> {
    if let Some(at) = list.iter().position(is_it) {
        return Ok(at);
    }
    list.push(make()?);
    Ok(list.len() - 1)
}

fn test(tests: &[Conditional], otherwise: u32) -> Result<Vec<Instruction>, String> {
    let mut program = Vec::new();
    for conditional in tests {
        let mut body: Vec<Step> = conditional.comparisons.iter().flat_map(compare).collect();
        body.push(Step::Plain(Instruction::plain(RETURN, conditional.verdict)));
        program.extend(link(&body)?);
    }
    program.push(Instruction::plain(RETURN, otherwise));
    Ok(program)
}

/// Where a comparison leads.
#[derive(Clone, Copy, Debug)]
enum To {
    /// The next step.
    Next,
    /// This many steps on: the comparison holds.
    Skip(u8),
    /// Past the whole conditional: it does not hold.
    Fail,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Plain(Instruction),
    Branch { code: u16, operand: u32, on_true: To, on_false: To },
}

/// Turns "past the end" into distances.
fn link(steps: &[Step]) -> Result<Vec<Instruction>, String> {
    let distance = |at: usize, to: To| match to {
        To::Next => Ok(0),
        To::Skip(steps) => Ok(steps),
        To::Fail => u8::try_from(steps.len() - at - 1).map_err(|_| "seccomp rule has too many comparisons".to_owned()),
    };
    let instructions = steps.iter().enumerate().map(|(at, step)| match *step {
        Step::Plain(instruction) => Ok(instruction),
        Step::Branch { code, operand, on_true, on_false } => {
            Ok(Instruction::branch(code, operand, distance(at, on_true)?, distance(at, on_false)?))
        }
    });
    instructions.collect()
}

fn low(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}

fn high(value: u64) -> u32 {
    (value >> 32) as u32
}

/// Steps that go on to the next if the comparison holds. The machine compares 32 bits, so high halves come first.
fn compare(comparison: &Comparison) -> Vec<Step> {
    use To::{Fail, Next, Skip};
    let (value, masked) = (comparison.value, comparison.masked);
    let base = ARGUMENTS + 8 * u32::try_from(comparison.argument).unwrap_or(0);
    let (low_at, high_at) = if cfg!(target_endian = "little") { (base, base + 4) } else { (base + 4, base) };
    let load = |at: u32| Step::Plain(Instruction::plain(LOAD, at));
    let and = |mask: u32| Step::Plain(Instruction::plain(AND, mask));
    let branch = |code: u16, operand: u32, on_true: To, on_false: To| Step::Branch { code, operand, on_true, on_false };
    // `code` on the low half decides once the high halves are equal; `above` and `below` say what they decide else.
    let ordered = |code: u16, holds_on_true: bool| {
        let (yes, no) = if holds_on_true { (Next, Fail) } else { (Fail, Next) };
        let mut steps = Vec::new();
        if !comparison.low_half {
            // Past the four steps that are left of this comparison, when its outcome is "holds".
            let (above, below) = if holds_on_true { (Skip(3), Fail) } else { (Fail, Skip(2)) };
            steps.push(load(high_at));
            steps.push(branch(JUMP_GREATER, high(value), above, Next));
            steps.push(branch(JUMP_EQUAL, high(value), Next, below));
        }
        steps.push(load(low_at));
        steps.push(branch(code, low(value), yes, no));
        steps
    };
    match comparison.operator {
        Operator::ScmpCmpGt => ordered(JUMP_GREATER, true),
        Operator::ScmpCmpGe => ordered(JUMP_GREATER_EQUAL, true),
        Operator::ScmpCmpLe => ordered(JUMP_GREATER, false),
        Operator::ScmpCmpLt => ordered(JUMP_GREATER_EQUAL, false),
        Operator::ScmpCmpEq => {
            let mut steps = Vec::new();
            if !comparison.low_half {
                steps.extend([load(high_at), branch(JUMP_EQUAL, high(value), Next, Fail)]);
            }
            steps.extend([load(low_at), branch(JUMP_EQUAL, low(value), Next, Fail)]);
            steps
        }
        Operator::ScmpCmpNe => {
            let mut steps = Vec::new();
            if !comparison.low_half {
                steps.extend([load(high_at), branch(JUMP_EQUAL, high(value), Next, Skip(2))]);
            }
            steps.extend([load(low_at), branch(JUMP_EQUAL, low(value), Fail, Next)]);
            steps
        }
        Operator::ScmpCmpMaskedEq => {
            let mut steps = Vec::new();
            if !comparison.low_half {
                steps.extend([load(high_at), and(high(value)), branch(JUMP_EQUAL, high(masked), Next, Fail)]);
            }
            steps.extend([load(low_at), and(low(value)), branch(JUMP_EQUAL, low(masked), Next, Fail)]);
            steps
        }
    }
}
