# Hashes, sorting, formats and regular expressions: for programs.sh.
use strict;
use warnings;

my ($s, %h, @a) = (1);
for my $i (1 .. 60000) {
	$s = ($s * 1103515245 + 12345) % 2147483648;
	$h{$s % 5000} += $i;
	push @a, $s;
}
my $text = "the quick brown fox " x 4000;
$text =~ s/(\w+) (\w+)/$2 $1/g;
print scalar(keys %h), " ", length($text), " ", substr($text, 0, 40), "\n";
print join(",", (sort { $a <=> $b } @a)[0 .. 20]), "\n";
printf "%.10g\n", eval { my $t = 0; $t += sqrt($_) * sin($_) for @a; $t };
