import Foundation

/// The libFuzzer driver of one target, whose name is the first argument; all others are libFuzzer's.

/// libFuzzer's loop, from the runtime without `main`.
@_silgen_name("LLVMFuzzerRunDriver")
private func runDriver(
  _ count: UnsafeMutablePointer<CInt>,
  _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
  _ callback: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
) -> CInt

/// The target of the callback, which is a C function and cannot capture it.
private nonisolated(unsafe) var target = FuzzTarget.json

guard CommandLine.argc > 1, let named = FuzzTarget(rawValue: CommandLine.arguments[1]) else {
  print(FuzzTarget.allCases.map(\.rawValue).joined(separator: "\n"))
  exit(CommandLine.argc > 1 ? 2 : 0)
}
unsafe target = named

// The program's name remains the first argument.
var count = CommandLine.argc - 1
unsafe CommandLine.unsafeArgv[1] = CommandLine.unsafeArgv[0]
var arguments = unsafe CommandLine.unsafeArgv + 1
let status = unsafe runDriver(&count, &arguments) { bytes, count in
  unsafe target.test([UInt8](UnsafeBufferPointer(start: bytes, count: count)))
  return 0
}
exit(status)
