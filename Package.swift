// swift-tools-version: 6.2

import PackageDescription

// MARK: - Settings shared by every Swift target

let settings: [SwiftSetting] = [
  .strictMemorySafety(),
  .enableExperimentalFeature("Lifetimes"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .treatAllWarnings(as: .error),
]

let argumentParser = Target.Dependency.product(
  name: "ArgumentParser", package: "swift-argument-parser")

let package = Package(
  name: "swift-pyramid-drop",
  platforms: [.macOS(.v26)],
  products: [
    .library(name: "PDrop", targets: ["PDrop", "TokenDropping"]),
    .executable(name: "pdrop-run", targets: ["pdrop-run"]),
    .executable(name: "pdrop-bench", targets: ["pdrop-bench"]),
    .executable(name: "pdrop-eval", targets: ["pdrop-eval"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/hummingbird-project/swift-mustache", from: "2.1.1"),
  ],
  targets: [
    // MARK: - C libraries

    .systemLibrary(
      name: "COpenBLAS", pkgConfig: "openblas",
      providers: [.apt(["libopenblas-dev"]), .brew(["openblas"])]),
    .systemLibrary(
      name: "CLAPACKE", pkgConfig: "lapacke",
      providers: [.apt(["liblapacke-dev"]), .brew(["lapack"])]),
    .target(
      name: "CImageCodecs",
      linkerSettings: [
        .linkedLibrary("turbojpeg"), .linkedLibrary("png"), .linkedLibrary("webp"),
      ]),

    // Attention, and products of few rows with their conversions, in variants chosen at run time.
    .target(name: "CAttentionKernels"),
    .target(name: "CQuantKernels"),
    // Loads the library itself, where there is one: nothing to link.
    .target(name: "COneDNN"),

    // MARK: - The engine, each target importing only those above it

    .target(
      name: "Kernels",
      dependencies: ["CAttentionKernels", "CLAPACKE", "COneDNN", "COpenBLAS", "CQuantKernels"],
      swiftSettings: settings,
      linkerSettings: [.linkedLibrary("m", .when(platforms: [.linux]))]),
    .target(name: "ModelFormats", dependencies: ["Kernels"], swiftSettings: settings),
    .target(name: "TokenDropping", swiftSettings: settings),
    .target(
      name: "LLaVA", dependencies: ["Kernels", "ModelFormats", "TokenDropping"],
      swiftSettings: settings),
    .target(
      name: "PDrop",
      dependencies: ["CImageCodecs", "Kernels", "ModelFormats", "TokenDropping", "LLaVA"],
      swiftSettings: settings),

    // Benchmarks' files and how answers are scored; knows nothing of the model.
    .target(name: "Evaluation", dependencies: ["Kernels", "ModelFormats"], swiftSettings: settings),

    // Pages for people: sections, tables, plots and kept maps as HTML, SVG, Markdown and JSON.
    .target(
      name: "Pages",
      dependencies: ["PDrop", .product(name: "Mustache", package: "swift-mustache")],
      resources: [.embedInCode("Templates")], swiftSettings: settings),

    // MARK: - Executables

    .target(
      name: "CommandLineOptions", dependencies: ["PDrop", "TokenDropping", argumentParser],
      swiftSettings: settings),
    .executableTarget(
      name: "pdrop-run",
      dependencies: ["PDrop", "Pages", "TokenDropping", "CommandLineOptions", argumentParser],
      swiftSettings: settings),
    .executableTarget(
      name: "pdrop-eval",
      dependencies: [
        "PDrop", "TokenDropping", "Evaluation", "CommandLineOptions", "BenchSupport", argumentParser,
      ],
      swiftSettings: settings),
    .target(
      name: "BenchSupport", dependencies: ["Evaluation", "Kernels"], path: "Benchmarks/BenchSupport",
      swiftSettings: settings),
    .executableTarget(
      name: "pdrop-bench",
      dependencies: [
        "PDrop", "Pages", "LLaVA", "ModelFormats", "Kernels", "TokenDropping", "CommandLineOptions",
        "BenchSupport", "Evaluation", argumentParser,
      ],
      path: "Benchmarks/pdrop-bench", swiftSettings: settings),

    // MARK: - Tests

    .target(
      name: "TestSupport", dependencies: ["Kernels", "TokenDropping"],
      path: "Tests/TestSupport", swiftSettings: settings),
    .testTarget(
      name: "KernelsTests", dependencies: ["Kernels", "ModelFormats", "TestSupport"],
      swiftSettings: settings),
    .testTarget(
      name: "ModelFormatsTests", dependencies: ["Kernels", "ModelFormats", "TestSupport"],
      swiftSettings: settings),
    .testTarget(
      name: "TokenDroppingTests", dependencies: ["TokenDropping", "TestSupport"],
      swiftSettings: settings),
    .testTarget(
      name: "LLaVATests",
      dependencies: ["LLaVA", "Kernels", "ModelFormats", "TokenDropping", "TestSupport"],
      swiftSettings: settings),
    .testTarget(
      name: "PDropTests",
      dependencies: [
        "PDrop", "LLaVA", "Kernels", "ModelFormats", "TokenDropping", "TestSupport",
      ],
      swiftSettings: settings),
    .testTarget(
      name: "EvaluationTests", dependencies: ["Evaluation", "TestSupport"], swiftSettings: settings),
    .testTarget(
      name: "PagesTests", dependencies: ["Pages", "PDrop", "LLaVA", "ModelFormats", "TestSupport"],
      swiftSettings: settings),
    .testTarget(
      name: "BenchSupportTests", dependencies: ["BenchSupport", "TestSupport"],
      swiftSettings: settings),
    // Runs the programs as processes; depends on them so that they are built.
    .testTarget(
      name: "CommandLineTests", dependencies: ["pdrop-run", "pdrop-bench", "pdrop-eval", "TestSupport"],
      swiftSettings: settings),
  ],
  swiftLanguageModes: [.v6]
)
