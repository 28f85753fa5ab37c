import ArgumentParser
import BenchSupport
import ModelFormats

extension PublishedShape: ExpressibleByArgument {}
extension TableFormat: ExpressibleByArgument {}
