use std::process::ExitCode;

fn main() -> ExitCode {
    ocipfs::allocator::configure();
    ocipfs::cli::main()
}
