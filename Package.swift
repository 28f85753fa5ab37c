// swift-tools-version: 6.2

import PackageDescription

// MARK: - Settings of all Swift targets

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
    // LLaVA and Storage hold public error types.
    .library(
      name: "PDrop",
      targets: ["ImageProcessing", "LLaVA", "PDrop", "Reports", "Storage", "TokenDropping", "Tokenizers"]),
    .library(name: "BatchInference", targets: ["BatchInference"]),
    .executable(name: "pdrop-run", targets: ["pdrop-run"]),
    .executable(name: "pdrop-bench", targets: ["pdrop-bench"]),
    .executable(name: "pdrop-eval", targets: ["pdrop-eval"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
    .package(url: "https://github.com/hummingbird-project/swift-mustache", from: "2.1.1"),
  ],
  targets: [
    // MARK: - C libraries

    .target(
      name: "CImageCodecs",
      linkerSettings: [
        .linkedLibrary("jpeg"), .linkedLibrary("png"), .linkedLibrary("webp"), .linkedLibrary("webpdemux"),
        .linkedLibrary("z"),
      ]),

    // Attention, small-M GEMM and conversions, compiled for several instruction sets and selected at run time.
    .target(name: "CKernels"),
    // Load OpenBLAS and oneDNN at run time if they are installed; not linked.
    .target(name: "COpenBLAS"),
    .target(name: "COneDNN"),
    // Signals of the operating system.
    .target(name: "CSignals"),

    // MARK: - Libraries; each target imports only those above it

    .target(name: "Storage", dependencies: ["CSignals"], swiftSettings: settings),
    .target(
      name: "Kernels",
      dependencies: ["CKernels", "COneDNN", "COpenBLAS", "Storage"],
      swiftSettings: settings,
      linkerSettings: [.linkedLibrary("m", .when(platforms: [.linux]))]),
    .target(
      name: "Tokenizers", dependencies: ["Storage", .product(name: "HeapModule", package: "swift-collections")],
      swiftSettings: settings),
    // An interpreter of the Jinja subset of chat templates.
    .target(name: "Jinja", dependencies: ["Storage"], swiftSettings: settings),
    // Structured output: JSON schemas, choices and regular expressions as sets of tokens.
    .target(name: "Grammar", dependencies: ["Storage"], swiftSettings: settings),
    .target(name: "ModelFormats", dependencies: ["Kernels", "Storage"], swiftSettings: settings),
    .target(
      name: "ImageProcessing", dependencies: ["CImageCodecs", "ModelFormats"], swiftSettings: settings),
    .target(name: "TokenDropping", swiftSettings: settings),
    // Selection of visual tokens before the language model: SCOPE, DivPrune, VScan, MMTok, CDPruner, TOPS.
    .target(name: "TokenSelection", dependencies: ["Kernels", "Storage"], swiftSettings: settings),
    .target(
      name: "LLaVA",
      dependencies: [
        "Kernels", "ModelFormats", "Storage", "TokenDropping", "TokenSelection",
        .product(name: "BasicContainers", package: "swift-collections"),
      ],
      swiftSettings: settings),
    .target(
      name: "PDrop",
      dependencies: [
        "Grammar", "ImageProcessing", "Jinja", "Kernels", "LLaVA", "ModelFormats", "Storage", "TokenDropping",
        "TokenSelection", "Tokenizers",
      ],
      swiftSettings: settings),
    .target(
      name: "BatchInference",
      dependencies: ["ImageProcessing", "Kernels", "LLaVA", "ModelFormats", "PDrop", "Storage", "TokenDropping"],
      swiftSettings: settings),
    .target(
      name: "Verification",
      dependencies: [
        "ImageProcessing", "Kernels", "LLaVA", "ModelFormats", "PDrop", "Storage", "TokenDropping",
        "TokenSelection",
      ],
      swiftSettings: settings),

    // Benchmark files and metrics; independent of the model.
    .target(name: "Evaluation", dependencies: ["Kernels", "Storage"], swiftSettings: settings),

    // Reports: sections, tables, plots and retained-token maps as HTML, SVG, PNG, Markdown and JSON.
    .target(
      name: "Reports",
      dependencies: ["ImageProcessing", "PDrop", .product(name: "Mustache", package: "swift-mustache")],
      resources: [.embedInCode("Templates")], swiftSettings: settings),

    // MARK: - Executables

    .target(
      name: "CommandLineSupport",
      dependencies: [
        "BatchInference", "ImageProcessing", "Kernels", "PDrop", "TokenDropping", "Tokenizers",
        "Verification", argumentParser,
      ],
      swiftSettings: settings),
    // The requests and answers of the server, without HTTP.
    .target(
      name: "Serving",
      dependencies: [
        "BatchInference", "CommandLineSupport", "ImageProcessing", "LLaVA", "ModelFormats", "PDrop", "Storage",
        "TokenDropping", "Tokenizers", argumentParser,
      ],
      swiftSettings: settings),
    .executableTarget(
      name: "pdrop-run",
      dependencies: [
        "BatchInference", "CommandLineSupport", "ImageProcessing", "PDrop", "Reports", "Storage", "TokenDropping",
        "Tokenizers", "Verification", argumentParser,
      ],
      swiftSettings: settings),
    .executableTarget(
      name: "pdrop-eval",
      dependencies: [
        "BatchInference", "CommandLineSupport", "Evaluation", "Kernels", "PDrop", "Reports", "Storage", "TokenDropping",
        argumentParser,
      ],
      swiftSettings: settings),
    .executableTarget(
      name: "pdrop-bench",
      dependencies: [
        "BatchInference", "CommandLineSupport", "Evaluation", "ImageProcessing", "Kernels", "LLaVA", "ModelFormats",
        "PDrop", "Reports", "Storage", "TokenDropping", argumentParser,
        .product(name: "BasicContainers", package: "swift-collections"),
      ],
      path: "Benchmarks/pdrop-bench", swiftSettings: settings),

    // MARK: - Tests

    .target(
      name: "TestSupport", dependencies: ["Kernels", "TokenDropping"],
      path: "Tests/TestSupport", swiftSettings: settings),
    // Helpers for tests that need a model: modified golden models, batches in temporary folders, parsed run reports.
    .target(
      name: "ModelTestSupport",
      dependencies: ["BatchInference", "ModelFormats", "PDrop", "TestSupport", "Verification"],
      path: "Tests/ModelTestSupport", swiftSettings: settings),
    // Counts allocations of the test program.
    .target(name: "CAllocationCount", path: "Tests/CAllocationCount"),
    .testTarget(
      name: "StorageTests", dependencies: ["Storage", "TestSupport"], swiftSettings: settings),
    .testTarget(
      name: "KernelsTests", dependencies: ["CKernels", "Kernels", "Storage", "TestSupport"],
      swiftSettings: settings),
    .testTarget(
      name: "TokenizersTests", dependencies: ["Storage", "TestSupport", "Tokenizers"], swiftSettings: settings),
    .testTarget(
      name: "JinjaTests", dependencies: ["Jinja", "Storage", "TestSupport"],
      exclude: ["Fixtures", "expressions.py", "families.py", "generate.py"],
      swiftSettings: settings),
    .testTarget(
      name: "GrammarTests", dependencies: ["Grammar", "Storage"], exclude: ["schemas.py"], swiftSettings: settings),
    .testTarget(
      name: "ModelFormatsTests", dependencies: ["Kernels", "ModelFormats", "Storage", "TestSupport"],
      swiftSettings: settings),
    .testTarget(
      name: "ImageProcessingTests", dependencies: ["ImageProcessing", "ModelFormats", "TestSupport"],
      swiftSettings: settings),
    .testTarget(
      name: "TokenDroppingTests", dependencies: ["TokenDropping", "TestSupport"],
      swiftSettings: settings),
    .testTarget(
      name: "TokenSelectionTests", dependencies: ["Kernels", "TestSupport", "TokenSelection"],
      swiftSettings: settings),
    .testTarget(
      name: "LLaVATests",
      dependencies: ["Kernels", "LLaVA", "ModelFormats", "TestSupport", "TokenDropping", "TokenSelection"],
      swiftSettings: settings),
    .testTarget(
      name: "PDropTests",
      dependencies: [
        "BatchInference", "CAllocationCount", "ImageProcessing", "Kernels", "LLaVA", "ModelFormats", "ModelTestSupport",
        "PDrop", "Storage", "TestSupport", "TokenDropping", "Tokenizers", "Verification",
      ],
      swiftSettings: settings),
    .testTarget(
      name: "BatchInferenceTests",
      dependencies: [
        "BatchInference", "LLaVA", "ModelFormats", "ModelTestSupport", "PDrop", "Storage", "TestSupport",
        "TokenDropping",
      ],
      swiftSettings: settings),
    .testTarget(
      name: "VerificationTests",
      dependencies: [
        "ModelTestSupport", "PDrop", "TestSupport", "Verification",
      ],
      swiftSettings: settings),
    .testTarget(
      name: "EvaluationTests", dependencies: ["Evaluation", "TestSupport"], swiftSettings: settings),
    .testTarget(
      name: "ReportsTests",
      dependencies: ["ImageProcessing", "LLaVA", "ModelFormats", "PDrop", "Reports"],
      swiftSettings: settings),
    .testTarget(
      name: "ServingTests",
      dependencies: ["BatchInference", "PDrop", "Serving", "Storage", "TestSupport", "TokenDropping"],
      swiftSettings: settings),
    // Compiles and runs the examples of doc comments, README and tutorial. Like other packages, it sees only public
    // declarations.
    .testTarget(
      name: "DocumentationTests",
      dependencies: ["BatchInference", "PDrop", "TestSupport", "TokenDropping", "Tokenizers"],
      packageAccess: false, swiftSettings: settings),
    // Runs the executables as processes and depends on them, so that they are built first.
    .testTarget(
      name: "CommandLineTests", dependencies: ["pdrop-run", "pdrop-bench", "pdrop-eval", "Storage", "TestSupport"],
      swiftSettings: settings),
  ],
  swiftLanguageModes: [.v6]
)

// The server, unless the variable is set, as in `make build`: its packages take minutes to build.
if Context.environment["PDROP_WITHOUT_SERVER"] == nil {
  package.products.append(.executable(name: "pdrop-serve", targets: ["pdrop-serve"]))
  package.dependencies += [
    .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1", traits: []),
    .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0", traits: []),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
    .package(url: "https://github.com/apple/swift-nio-extras", from: "1.35.2"),
    .package(url: "https://github.com/swift-server/async-http-client", from: "1.37.0"),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
  ]
  package.targets += [
    .executableTarget(
      name: "pdrop-serve",
      dependencies: [
        "BatchInference", "CommandLineSupport", "PDrop", "Serving", "Storage", "TokenDropping", argumentParser,
        .product(name: "AsyncHTTPClient", package: "async-http-client"),
        .product(name: "HTTPTypes", package: "swift-http-types"),
        .product(name: "Hummingbird", package: "hummingbird"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "NIOCore", package: "swift-nio"), .product(name: "NIOHTTP1", package: "swift-nio"),
        .product(name: "NIOHTTPTypes", package: "swift-nio-extras"),
        .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
      ],
      resources: [.embedInCode("Resources")], swiftSettings: settings)
  ]
}

// The plugin of `make docs`, which sets the variable. Otherwise every `swift build` would compile the plugin's tools.
if Context.environment["PDROP_DOCS"] != nil {
  package.dependencies.append(.package(url: "https://github.com/swiftlang/swift-docc-plugin", from: "1.5.0"))
}

// The fuzzer of `make fuzz`, which sets the variable and the flags of the sanitizers.
if Context.environment["PDROP_FUZZ"] != nil {
  package.targets.append(
    .executableTarget(
      name: "pdrop-fuzz",
      dependencies: [
        "BatchInference", "Evaluation", "Grammar", "ImageProcessing", "Jinja", "Kernels", "ModelFormats", "PDrop",
        "Serving", "Storage", "TokenDropping", "Tokenizers",
      ],
      path: "Tests/Fuzz", exclude: ["README.md", "corpus.py", "inputs", "run.py"], swiftSettings: settings))
}
