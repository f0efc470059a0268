# Perl: hashes, sorting, numbers as text, regular expressions, big numbers.
use strict;
use warnings;
use Digest::SHA qw(sha256_hex);
use Math::BigInt;
use POSIX;

my ($s, %h, @a) = (1);
for my $i (1 .. 100000) {
	$s = ($s * 1103515245 + 12345) % 2147483648;
	$h{$s % 5000} += $i;
	push @a, $s;
}
my @some = @a[0 .. 20000];
my $text = "the quick brown fox " x 2000;
(my $turned = $text) =~ s/(\w+) (\w+)/$2 $1/g;

print scalar(keys %h), "\n";
print sha256_hex(join ",", map { "$_=$h{$_}" } sort { $a <=> $b } keys %h), "\n";
print sha256_hex(join ",", sort { $a <=> $b } @a), "\n";
print sha256_hex(join ",", map { sprintf "%.15g %e %x %o", $_ / 7, $_ * 1e-315, $_, $_ } @some), "\n";
print sha256_hex(join ",", map { sin($_) . cos($_) . exp($_ / 1e9) . log($_ + 1) . sqrt($_) } @some), "\n";
print Math::BigInt->new(3)->bpow(2000)->bmod("1000000000000000003"), "\n";
print sha256_hex($turned), "\n";
print join(" ", map { POSIX::fmod($_, 3.7), POSIX::strtod("1.$_" . "e$_") } 1 .. 20), "\n";
print sha256_hex(pack("w*N*d<*", @a[0 .. 999])), " ", unpack("%32C*", $text), "\n";
