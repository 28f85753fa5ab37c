internal import Foundation

/// What a measurement was made on.
package struct Machine: Sendable {
  /// The processor's name, such as `AMD EPYC`.
  package let processor: String
  /// The version of the sources, as git names it; `unknown` outside of a checkout.
  package let commit: String

  /// The machine that the program runs on, and the checkout in which it lies.
  package static let current = Machine(processor: processorName(), commit: commitName())

  private static func processorName() -> String {
    // Linux lists the processors in a file; elsewhere the system's own tool says.
    let lines = (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8))?.split(separator: "\n")
    let name = lines?.first { $0.hasPrefix("model name") }?.split(separator: ":").last.map(trimmed)
    return name ?? output("/usr/sbin/sysctl", ["-n", "machdep.cpu.brand_string"]) ?? "unknown"
  }

  private static func commitName() -> String {
    let folder = URL(filePath: Bundle.main.executablePath ?? ".").resolvingSymlinksInPath().deletingLastPathComponent()
    return output(
      "/usr/bin/env", ["git", "-C", folder.path, "describe", "--always", "--dirty", "--abbrev=9", "--exclude=*"])
      ?? "unknown"
  }

  /// What a program prints, or nothing where it fails.
  private static func output(_ program: String, _ arguments: [String]) -> String? {
    let (process, pipe) = (Process(), Pipe())
    process.executableURL = URL(filePath: program)
    process.arguments = arguments
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = pipe
    process.standardError = FileHandle.nullDevice
    guard (try? process.run()) != nil else { return nil }
    let data = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    let text = trimmed(Substring(String(decoding: data, as: UTF8.self)))
    return process.terminationStatus == 0 && !text.isEmpty ? text : nil
  }

  private static func trimmed(_ text: Substring) -> String { text.trimmingCharacters(in: .whitespacesAndNewlines) }
}

/// Begins the count of the process's peak memory anew, where the system can: on Linux.
package func resetPeakMemory() {
  // What is no Linux has no such file, and then the peak is the whole process's.
  guard let file = FileHandle(forWritingAtPath: "/proc/self/clear_refs") else { return }
  try? file.write(contentsOf: Data("5\n".utf8))
  try? file.close()
}
