"""A plugin in one file: two hourglasses (Newell et al. 2016), whose maps have a quarter of the resolution."""

from lannunet_core import Plugin, hookimpl


class Hourglasses(Plugin):
    @hookimpl
    def network(self):
        from torch import nn
        from torch.nn.functional import interpolate

        def convolve(channels, stride=1):
            layer = nn.Conv2d(channels, 64, 3, stride, padding=1)
            return nn.Sequential(layer, nn.InstanceNorm2d(64, affine=True), nn.LeakyReLU(0.01))

        class Hourglass(nn.Module):
            def __init__(self, depth):
                super().__init__()
                below = Hourglass(depth - 1) if depth > 1 else convolve(64)
                self.skip = nn.Sequential(convolve(64), convolve(64))
                self.down = nn.Sequential(convolve(64, 2), below, convolve(64))

            def forward(self, x):
                return x + self.skip(x) + interpolate(self.down(x), x.shape[2:], mode="bilinear")

        class Network(nn.Module):
            def __init__(self, channels, outputs):
                super().__init__()
                self.stem = nn.Sequential(nn.PixelUnshuffle(4), convolve(16 * channels), convolve(64))
                self.stacks = nn.ModuleList([Hourglass(3), Hourglass(3)])
                self.heads = nn.ModuleList([nn.Conv2d(64, outputs, 1), nn.Conv2d(64, outputs, 1)])

            def forward(self, image):
                first = self.stacks[0](self.stem(image))  # (B, 64, y / 4, x / 4); supervised too
                return [self.heads[1](self.stacks[1](first)), self.heads[0](first)]

        return Network(self.run.in_channels, len(self.run.outputs))
