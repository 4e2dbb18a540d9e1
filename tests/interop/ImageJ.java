// What ImageJ sees in a file: key=value lines, and the pixels as big-endian float32.
import ij.ImagePlus;
import ij.io.Opener;
import ij.measure.Calibration;
import ij.process.ImageProcessor;
import ij.process.LUT;
import java.io.BufferedOutputStream;
import java.io.DataOutputStream;
import java.io.FileOutputStream;
import java.io.PrintStream;

public class ImageJ {
    public static void main(String[] arguments) throws Exception {
        ImagePlus image = new Opener().openImage(arguments[0]);
        Calibration size = image.getCalibration();
        PrintStream out = new PrintStream(System.out, true, "UTF-8");
        out.println("C=" + image.getNChannels());
        out.println("Z=" + image.getNSlices());
        out.println("T=" + image.getNFrames());
        out.println("scale X=" + size.pixelWidth);
        out.println("scale Y=" + size.pixelHeight);
        out.println("scale Z=" + size.pixelDepth);
        out.println("scale T=" + size.frameInterval);
        out.println("unit X=" + size.getXUnit());
        out.println("unit Y=" + size.getYUnit());
        out.println("unit Z=" + size.getZUnit());
        out.println("unit T=" + size.getTimeUnit());
        LUT table = image.getLuts()[0];
        for (int id = 1; id < 4; id++) {
            out.println("colour " + id + "=" + table.getRed(id) + " "
                + table.getGreen(id) + " " + table.getBlue(id));
        }
        if (image.getNChannels() > 1) {
            out.println("window=" + table.min + " " + table.max);
        }
        for (int channel = 1; channel <= image.getNChannels(); channel++) {
            out.println("channel " + channel + "="
                + image.getStack().getSliceLabel(channel));
        }
        DataOutputStream pixels = new DataOutputStream(
            new BufferedOutputStream(new FileOutputStream(arguments[1])));
        for (int plane = 1; plane <= image.getStackSize(); plane++) {
            ImageProcessor processor = image.getStack().getProcessor(plane);
            for (int i = 0; i < processor.getPixelCount(); i++) {
                pixels.writeFloat(processor.getf(i));
            }
        }
        pixels.close();
    }
}
