//! Object files to one image: code and constants side by side, every relocation applied.

use std::collections::HashMap;

use object::elf;
use object::read::elf::ElfFile64;
use object::{
    LittleEndian, Object, ObjectSection, ObjectSymbol, Relocation, RelocationFlags, RelocationTarget, SectionIndex,
    SectionKind,
};
use xlac_ir::backend::Image;

/// Entry points start at multiples of this.
const ENTRY_ALIGN: u64 = 64;

/// An object file of one kernel.
type File<'a> = ElfFile64<'a, LittleEndian>;

/// Lays out objects, one per kernel, in their order. An error names the object it is about.
pub(crate) fn link(objects: &[Vec<u8>]) -> Result<Image, (usize, String)> {
    let mut image = Image::default();
    for (i, bytes) in objects.iter().enumerate() {
        append(&mut image, bytes).map_err(|reason| (i, reason))?;
    }
    Ok(image)
}

/// Adds one object. Its code and its constants lie together: they are used together.
fn append(image: &mut Image, bytes: &[u8]) -> Result<(), String> {
    let file = File::parse(bytes).map_err(|e| format!("LLVM's object file: {e}"))?;
    let mut places: HashMap<SectionIndex, u64> = HashMap::new();
    let (code, data): (Vec<_>, Vec<_>) = file
        .sections()
        .filter(|s| s.size() > 0 && matches!(s.kind(), SectionKind::Text) || is_constant(s.kind()) && kept(s))
        .partition(|s| s.kind() == SectionKind::Text);
    for section in code.iter().chain(&data) {
        let align = if section.kind() == SectionKind::Text { ENTRY_ALIGN } else { 1 }.max(section.align());
        let padding = (image.bytes.len() as u64).next_multiple_of(align);
        image.bytes.resize(padding as usize, 0);
        places.insert(section.index(), padding);
        image.bytes.extend_from_slice(section.data().map_err(|e| e.to_string())?);
    }
    for section in code.iter().chain(&data) {
        for (offset, relocation) in section.relocations() {
            let at = places[&section.index()] + offset;
            let to = target(&file, &places, &relocation)?;
            apply(&mut image.bytes, at, to, relocation.flags())?;
        }
    }
    let entry = file
        .symbols()
        .find(|s| s.is_global() && s.is_definition())
        .ok_or("LLVM's object file defines no function")?;
    let section = entry.section_index().and_then(|s| places.get(&s)).ok_or("the entry point has no section")?;
    let entry = section + entry.address();
    if !entry.is_multiple_of(ENTRY_ALIGN) {
        return Err("the entry point is not aligned".into());
    }
    image.entries.push(entry);
    Ok(())
}

fn is_constant(kind: SectionKind) -> bool { matches!(kind, SectionKind::ReadOnlyData | SectionKind::ReadOnlyString) }

/// Unwinding tables are of no use in an image: nothing unwinds through a kernel.
fn kept<'a>(section: &impl ObjectSection<'a>) -> bool {
    section.size() > 0 && !section.name().is_ok_and(|n| n.starts_with(".eh_frame"))
}

/// Offset in the image that a relocation refers to, addend included.
fn target(file: &File, places: &HashMap<SectionIndex, u64>, relocation: &Relocation) -> Result<i64, String> {
    let RelocationTarget::Symbol(index) = relocation.target() else {
        return Err("a relocation without a symbol".into());
    };
    let symbol = file.symbol_by_index(index).map_err(|e| e.to_string())?;
    let name = || symbol.name().ok().filter(|n| !n.is_empty()).unwrap_or("(no name)").to_string();
    if symbol.is_undefined() {
        return Err(format!("needs outside symbol `{}`: an operation the target has no instruction for", name()));
    }
    let section = symbol.section_index().and_then(|s| places.get(&s));
    let section = section.ok_or_else(|| format!("refers to `{}`, which is neither code nor constants", name()))?;
    Ok((section + symbol.address()) as i64 + relocation.addend())
}

/// Writes the distance to, or the page part of, `to` into the instruction or word at `at`.
fn apply(bytes: &mut [u8], at: u64, to: i64, flags: RelocationFlags) -> Result<(), String> {
    let RelocationFlags::Elf { r_type } = flags else { return Err("a relocation that is not ELF's".into()) };
    let distance = to - at as i64;
    let at = at as usize;
    let word = u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    // Machines number their relocations independently, but the numbers do not meet: 64-bit Arm's begin at 257.
    let patched = match r_type {
        elf::R_X86_64_PC32 | elf::R_X86_64_PLT32 | elf::R_AARCH64_PREL32 => {
            i32::try_from(distance).map_err(|_| "an image larger than 2 GiB")? as u32
        }
        elf::R_X86_64_PC64 | elf::R_AARCH64_PREL64 => {
            bytes[at..at + 8].copy_from_slice(&distance.to_le_bytes());
            return Ok(());
        }
        elf::R_AARCH64_CALL26 | elf::R_AARCH64_JUMP26 => {
            if distance % 4 != 0 || !(-(1 << 27)..1 << 27).contains(&distance) {
                return Err("a branch out of reach".into());
            }
            word & 0xfc00_0000 | (distance >> 2) as u32 & 0x03ff_ffff
        }
        // Pages are those of the image, which is mapped at a page boundary.
        elf::R_AARCH64_ADR_PREL_PG_HI21 => {
            let pages = (to >> 12) - (at as i64 >> 12);
            let (low, high) = (pages as u32 & 3, (pages >> 2) as u32 & 0x7_ffff);
            word & 0x9f00_001f | low << 29 | high << 5
        }
        elf::R_AARCH64_ADR_PREL_LO21 => {
            let (low, high) = (distance as u32 & 3, (distance >> 2) as u32 & 0x7_ffff);
            word & 0x9f00_001f | low << 29 | high << 5
        }
        elf::R_AARCH64_ADD_ABS_LO12_NC | elf::R_AARCH64_LDST8_ABS_LO12_NC => low12(word, to, 0)?,
        elf::R_AARCH64_LDST16_ABS_LO12_NC => low12(word, to, 1)?,
        elf::R_AARCH64_LDST32_ABS_LO12_NC => low12(word, to, 2)?,
        elf::R_AARCH64_LDST64_ABS_LO12_NC => low12(word, to, 3)?,
        elf::R_AARCH64_LDST128_ABS_LO12_NC => low12(word, to, 4)?,
        other => return Err(format!("a relocation of type {other:?} that the linker does not know")),
    };
    bytes[at..at + 4].copy_from_slice(&patched.to_le_bytes());
    Ok(())
}

/// The offset in its page as the 12-bit immediate of an instruction that scales it.
fn low12(word: u32, to: i64, scale: u32) -> Result<u32, String> {
    let low = to as u32 & 0xfff;
    if !low.is_multiple_of(1 << scale) {
        return Err("a constant that is not aligned for its load".into());
    }
    Ok(word & !(0xfff << 10) | (low >> scale) << 10)
}
