import Evaluation
import Foundation
import Kernels
import PDrop
import Reports

/// The machine and the source version of a measurement.
package struct Machine: Sendable {
  /// The name of the processor, such as `AMD EPYC`.
  package let processor: String
  /// The commit as `git describe` prints it; `unknown` outside of a checkout.
  package let commit: String

  /// The machine that runs this process, and the checkout that contains the program.
  package static let current = Machine(processor: processorName(), commit: commitName())

  private static func processorName() -> String {
    // Linux has a file with the processors; other systems have sysctl.
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

  /// The output of a program; `nil` if it fails or prints nothing.
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

/// Resets the peak RSS of the process, on Linux only.
package func resetPeakMemory() {
  // Other systems lack this file; the peak RSS then covers the whole lifetime of the process.
  guard let file = FileHandle(forWritingAtPath: "/proc/self/clear_refs") else { return }
  try? file.write(contentsOf: Data("5\n".utf8))
  try? file.close()
}

/// Wall time since initialization.
package struct Stopwatch: Sendable {
  private let start = ContinuousClock.now

  package init() {}

  package var milliseconds: Double { (ContinuousClock.now - start).milliseconds }
}

/// The wall time that `body` takes, in milliseconds.
package func milliseconds<Failure: Error>(_ body: () throws(Failure) -> Void) throws(Failure) -> Double {
  let stopwatch = Stopwatch()
  try body()
  return stopwatch.milliseconds
}

/// The peak throughput of the machine, one sample per measurement.
///
/// Re-measured between runs, because throughput on shared machines drifts.
struct Peaks {
  /// Floating-point or integer operations per second of large square matmuls.
  private(set) var compute: [ComputeType: Sample] = [:]
  /// Memory bandwidth in bytes per second.
  private(set) var bandwidth = Sample()

  /// Measures a matmul and returns its operations per second.
  @discardableResult
  mutating func measureCompute(_ computeType: ComputeType, with kernels: PeakKernels) -> Double {
    let rate = kernels.matmulRate(computeType)
    compute[computeType, default: Sample()].append(rate)
    return rate
  }

  /// Measures memory bandwidth and returns bytes per second.
  @discardableResult
  mutating func measureBandwidth(with kernels: PeakKernels) -> Double {
    let rate = kernels.memoryBandwidth()
    bandwidth.append(rate)
    return rate
  }

  /// Measures all peaks; the memory for this is released afterwards.
  mutating func measure(_ computeTypes: Set<ComputeType>, threads: Int) {
    let kernels = PeakKernels(computeTypes, threads: threads)
    for computeType in computeTypes { measureCompute(computeType, with: kernels) }
    measureBandwidth(with: kernels)
  }

  /// Such as `f32 497, bf16 1012 GOP/s; memory bandwidth 45.2 GB/s`.
  var description: String {
    let rates = ComputeType.allCases.compactMap { computeType in
      compute[computeType].map { "\(computeType) \(($0.median / 1e9).formatted(0))" }
    }
    return "\(rates.joined(separator: ", ")) GOP/s; memory bandwidth \((bandwidth.median / 1e9).formatted(1)) GB/s"
  }
}

/// The kernels that measure the peaks: a large square matmul in each compute type, and a bandwidth probe.
final class PeakKernels {
  private let compute: ComputeContext
  private let bandwidthProbe: BandwidthProbe
  private let input: Matrix
  private var result: Matrix
  private let layers: [ComputeType: Linear]

  /// Rows of the input, and its columns, which are also the rows and columns of the weight.
  private static let (rows, side) = (2048, 4096)
  private static let readBytes = 512 << 20

  init(_ computeTypes: Set<ComputeType>, threads: Int) {
    let workers = Workers(count: threads)
    compute = ComputeContext(workers: workers)
    bandwidthProbe = BandwidthProbe(byteCount: Self.readBytes, workers: workers)
    input = Matrix(randomRows: Self.rows, columns: Self.side, workers: workers)
    result = Matrix(rows: 0, columns: Self.side)
    func layer(_ computeType: ComputeType) -> Linear {
      Linear(randomInputs: Self.side, outputs: Self.side, for: computeType, workers: workers)
    }
    layers = Dictionary(uniqueKeysWithValues: computeTypes.map { ($0, layer($0)) })
    // Warm-up: the first call is always slower.
    for layer in layers.values { compute.matmul(&result, input, by: layer, .output) }
  }

  /// Operations per second of a matmul, the better of two runs.
  func matmulRate(_ computeType: ComputeType) -> Double {
    guard let layer = layers[computeType] else { preconditionFailure("PeakKernels: no weight in \(computeType)") }
    let operations = 2 * Double(Self.rows * Self.side * Self.side)
    return operations / bestMilliseconds { compute.matmul(&result, input, by: layer, .output) } * 1e3
  }

  /// Bytes read per second, the better of two runs.
  func memoryBandwidth() -> Double {
    Double(bandwidthProbe.byteCount) / bestMilliseconds { bandwidthProbe(workers: compute.workers) } * 1e3
  }

  private func bestMilliseconds(_ body: () -> Void) -> Double { min(milliseconds(body), milliseconds(body)) }
}

extension Linear {
  /// A layer of random weights for a compute type: f32 weights for f32, else weights converted from bf16.
  init(randomInputs inputs: Int, outputs: Int, seed: UInt64 = 0, for computeType: ComputeType, workers: Workers) {
    let weight = Tensor(
      randomShape: [outputs, inputs], deviation: 1 / Float(inputs).squareRoot(),
      element: computeType == .f32 ? .f32 : .bf16, seed: seed, workers: workers)
    self = Linear(weight: weight).converted(to: computeType, workers: workers)
  }
}

extension Matrix {
  /// Random activations, `[rows, columns]`.
  init(randomRows rows: Int, columns: Int, workers: Workers) {
    let values = Tensor(randomShape: [rows, columns], deviation: 1, element: .f32, seed: 1, workers: workers)
    self.init(values.floats(), columns: columns)
  }
}

extension Peaks {
  /// The fields about the machine, the same in all rows.
  func fields(_ machine: Machine) -> [Field] {
    [
      Field("peaks", .text(description), .note(heading: "peaks")),
      Field("build_commit", .text(machine.commit), .note(heading: "commit")),
      Field("cpu_info", .text(machine.processor), .note(heading: "cpu")),
      Field("libraries", .text(Self.libraries), .note(heading: "libraries")),
    ]
  }

  /// The versions of the matmul libraries, and the instruction set of our own kernels.
  static var libraries: String {
    let oneDNN = Processor.current.oneDNN.map { "oneDNN \($0.version)" } ?? "no oneDNN"
    let openBLAS = Processor.current.openBLAS.map { "OpenBLAS \($0.version) (\($0.coreName))" } ?? "no OpenBLAS"
    return "\(openBLAS), \(oneDNN); own kernels in \(Processor.current.instructions)"
  }
}
