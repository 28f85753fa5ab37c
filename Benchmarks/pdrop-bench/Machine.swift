import Evaluation
import Foundation
import Kernels
import PDrop
import Reports

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

/// Wall time since it was made.
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

/// What the machine could do at its best, each time that it was tried.
///
/// Tried again and again between other measurements, since a machine's mood changes.
struct Peaks {
  /// Floating-point or integer operations per second of large square products.
  private(set) var products: [ComputeType: Sample] = [:]
  /// Bytes per second.
  private(set) var reading = Sample()

  /// Tries a product, and returns its rate.
  @discardableResult
  mutating func measureProducts(_ computeType: ComputeType, with kernels: PeakKernels) -> Double {
    let rate = kernels.productRate(computeType)
    products[computeType, default: Sample()].append(rate)
    return rate
  }

  /// Tries to read, and returns the rate.
  @discardableResult
  mutating func measureBandwidth(with kernels: PeakKernels) -> Double {
    let rate = kernels.memoryBandwidth()
    reading.append(rate)
    return rate
  }

  /// Tries everything, in memory that is then given back.
  mutating func measure(_ computeTypes: Set<ComputeType>, threads: Int) {
    let kernels = PeakKernels(computeTypes, threads: threads)
    for computeType in computeTypes { measureProducts(computeType, with: kernels) }
    measureBandwidth(with: kernels)
  }

  /// Such as `f32 497, bf16 1012 GOP/s; reading 45.2 GB/s`.
  var description: String {
    let rates = ComputeType.allCases.compactMap { computeType in
      products[computeType].map { "\(computeType) \(($0.median / 1e9).formatted(0))" }
    }
    return "\(rates.joined(separator: ", ")) GOP/s; reading \((reading.median / 1e9).formatted(1)) GB/s"
  }
}

/// What the limits are tried with: a large square product in each arithmetic, and memory to read.
final class PeakKernels {
  private let compute: ComputeContext
  private let bandwidthProbe: BandwidthProbe
  private let input: Matrix
  private var result: Matrix
  private let layers: [ComputeType: Linear]

  /// Rows of the product, and numbers in each of them.
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
    // The first time is never the best.
    for layer in layers.values { compute.matmul(&result, input, by: layer, .output) }
  }

  /// Operations per second of a product: of the better of two.
  func productRate(_ computeType: ComputeType) -> Double {
    guard let layer = layers[computeType] else { preconditionFailure("PeakKernels: no product in \(computeType)") }
    let operations = 2 * Double(Self.rows * Self.side * Self.side)
    return operations / bestMilliseconds { compute.matmul(&result, input, by: layer, .output) } * 1e3
  }

  /// Bytes read per second: of the better of two times.
  func memoryBandwidth() -> Double {
    Double(bandwidthProbe.byteCount) / bestMilliseconds { bandwidthProbe(workers: compute.workers) } * 1e3
  }

  private func bestMilliseconds(_ body: () -> Void) -> Double { min(milliseconds(body), milliseconds(body)) }
}

extension Linear {
  /// A layer of random weights, for products in an arithmetic: stored in f32 for that, else made from bf16.
  init(randomInputs inputs: Int, outputs: Int, seed: UInt64 = 0, for computeType: ComputeType, workers: Workers) {
    let weight = Tensor(
      randomShape: [outputs, inputs], deviation: 1 / Float(inputs).squareRoot(),
      element: computeType == .f32 ? .f32 : .bf16, seed: seed, workers: workers)
    self = Linear(weight: weight).converted(to: computeType, workers: workers)
  }
}

extension Matrix {
  /// Random activations.
  init(randomRows rows: Int, columns: Int, workers: Workers) {
    let values = Tensor(randomShape: [rows, columns], deviation: 1, element: .f32, seed: 1, workers: workers)
    self.init(values.floats(), columns: columns)
  }
}

extension Peaks {
  /// What every record says about the machine that it was measured on.
  func fields(_ machine: Machine) -> [Field] {
    [
      Field("limits", .text(description), .note(heading: "limits")),
      Field("build_commit", .text(machine.commit), .note(heading: "commit")),
      Field("cpu_info", .text(machine.processor), .note(heading: "cpu")),
      Field("libraries", .text(libraries), .note(heading: "libraries")),
    ]
  }

  /// Versions of what multiplies, and the instructions that our own kernels use.
  private var libraries: String {
    let oneDNN = Processor.current.oneDNN.map { "oneDNN \($0.version)" } ?? "no oneDNN"
    return
      "OpenBLAS \(OpenBLAS.version) (\(OpenBLAS.coreName)), \(oneDNN); own kernels in \(Processor.current.instructions)"
  }
}
